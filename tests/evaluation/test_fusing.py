"""Quicker copies never give another answer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from auditsvc.evaluation.inference import CompiledModel, compile_model, fold_batchnorm, in_steps
from tests.fakes.models import as_model


def network(seed=0):
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    for layer in module:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.3)
            layer.running_var.uniform_(0.5, 2)
    return as_model(module, (3, 16, 16), ("a", "b", "c", "d"))


def test_folding_batch_normalisation_keeps_the_outputs():
    model, images = network(), torch.rand(9, 3, 16, 16)
    quick = fold_batchnorm(model)
    assert quick is not model
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in quick.module.modules())
    assert torch.allclose(quick(images), model(images), atol=1e-5)


def test_a_compiled_copy_gives_the_models_answers_at_any_batch_size():
    model = network(1)
    quick = compile_model(model, torch.rand(8, 3, 16, 16))
    assert isinstance(quick, CompiledModel)
    for size in (1, 5, 8, 30):
        images = torch.rand(size, 3, 16, 16)
        assert torch.allclose(quick(images), model(images), atol=1e-4)
        assert torch.equal(quick(images).argmax(1), model(images).argmax(1))


def test_where_two_classes_are_close_the_model_itself_is_asked():
    model, images = network(2), torch.rand(6, 3, 16, 16)

    def wrong(given):
        return torch.tensor([[1.0, 1.0001, 0, 0], [5.0, 0, 0, 0]]).repeat(3, 1)

    found = CompiledModel(model, wrong)(images)
    assert torch.equal(found[::2], model(images[::2]))
    assert torch.equal(found[1::2], wrong(images)[1::2])


def test_a_module_that_branches_on_its_data_is_not_compiled():
    class Branching(nn.Module):
        def forward(self, images):
            mean = images.mean(dim=(1, 2, 3))
            return torch.stack((mean, 1 - mean), 1) if images.mean() > 0.5 else torch.stack((1 - mean, mean), 1)

    model = as_model(Branching())
    assert compile_model(model, torch.rand(4, 3, 16, 16)) is model
    assert fold_batchnorm(model) is model


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 70])
def test_batches_that_are_filled_up_answer_and_slope_alike(size):
    sizes = []
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 36, 4)).eval()

    def outputs(images):
        sizes.append(len(images))
        return network(images)

    filled = in_steps(outputs)
    images = torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(1), requires_grad=True)
    assert torch.allclose(filled(images), network(images), atol=1e-6)
    slopes = [torch.autograd.grad(one(images).square().sum(), images)[0] for one in (filled, network)]
    assert torch.allclose(*slopes, atol=1e-6)
    assert sizes[-1] in (0, 32, 64, 128) and sizes[-1] >= size
