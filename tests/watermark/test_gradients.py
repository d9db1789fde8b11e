import torch

from auditsvc.watermark.gradients import Probe, layers_of, parts_of, pulled_back, reached, rows_of


def test_every_row_is_the_gradient_that_autograd_gives(odd, images):
    layers = reached(layers_of(odd), odd, images[:1])
    mixtures = torch.randn(11, 2, 4, generator=torch.Generator().manual_seed(2))
    probe = Probe(odd, images[:11], mixtures)
    (parts,) = parts_of(layers, probe.rows)
    rows = rows_of(parts, probe)
    for image in range(11):
        for mixture in range(2):
            mixed = (odd(images[image : image + 1]) * mixtures[image, mixture]).sum()
            slopes = torch.autograd.grad(mixed, [layer.module.weight for layer in layers])
            expected = torch.cat([slope.flatten() for slope in slopes])
            torch.testing.assert_close(rows[2 * image + mixture], expected, rtol=1e-4, atol=1e-6)


def test_groups_of_filters_give_the_same_rows_as_all_at_once(odd, images):
    layers = reached(layers_of(odd), odd, images[:1])
    probe = Probe(odd, images[:5], torch.ones(5, 1, 4))
    (whole,) = parts_of(layers, probe.rows)
    groups = parts_of(layers, probe.rows, memory=4 * probe.rows * 60)
    assert len(groups) > 10
    assert all(sum(part.size for part in group) <= 60 or len(group) == 1 for group in groups)
    torch.testing.assert_close(torch.cat([rows_of(group, probe) for group in groups], 1), rows_of(whole, probe))


def test_pulling_back_is_the_product_with_the_transposed_rows(odd, images):
    layers = reached(layers_of(odd), odd, images[:1])
    probe = Probe(odd, images[:9], torch.randn(9, 2, 4, generator=torch.Generator().manual_seed(3)))
    amounts = torch.randn(18, generator=torch.Generator().manual_seed(4))
    (parts,) = parts_of(layers, probe.rows)
    got = torch.cat([slope.flatten() for slope in pulled_back(layers, probe, amounts)])
    torch.testing.assert_close(got, rows_of(parts, probe).T @ amounts, rtol=1e-4, atol=1e-5)


def test_a_layer_that_the_logits_do_not_depend_on_is_left_out(odd, images):
    names = [layer.name for layer in reached(layers_of(odd), odd, images[:1])]
    assert "unused.weight" not in names
    assert "head.weight" in names
