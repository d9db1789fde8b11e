import pytest
import torch

from auditsvc.errors import InvalidInput
from auditsvc.watermark import Payload, derive_seed, detect, embed, embedding, weights_digest
from auditsvc.watermark.gradients import parts_of

MASTER = bytes(range(32))


@pytest.fixture
def marked(odd, images):
    unmarked = weights_digest(odd.state_dict())
    seed = derive_seed(MASTER, unmarked, "toy-1")
    before = {name: tensor.clone() for name, tensor in odd.state_dict().items()}
    weights, mark = embed(odd, odd, images, seed=seed, unmarked=unmarked, payload=Payload(5, 6), strength=0.05)
    return before, weights, mark, seed


def test_names_dtypes_and_zeros_stay_as_they_were(marked):
    before, weights, _, _ = marked
    assert list(before) == list(weights)
    for name, tensor in before.items():
        assert (tensor.dtype, tensor.shape) == (weights[name].dtype, weights[name].shape)
        assert torch.equal(tensor == 0, weights[name] == 0)


def test_biases_normalisation_and_unreached_layers_stay_as_they_were(marked):
    before, weights, mark, _ = marked
    changed = [name for name in before if not torch.equal(before[name], weights[name])]
    assert changed == mark.parameters["layers"]


def test_the_model_itself_is_left_as_it_was(marked, odd):
    before = marked[0]
    assert all(torch.equal(before[name], tensor) for name, tensor in odd.state_dict().items())
    assert not odd.training


def test_marking_again_gives_the_same_bits(marked, odd, images):
    _, weights, mark, seed = marked
    again, same = embed(odd, odd, images, seed=seed, unmarked=mark.unmarked, payload=Payload(5, 6), strength=0.05)
    assert same == mark
    assert weights_digest(again) == weights_digest(weights)


def test_the_answers_move_far_less_than_under_bare_signs(odd, images, monkeypatch):
    unmarked = weights_digest(odd.state_dict())
    before = {name: tensor.clone() for name, tensor in odd.state_dict().items()}

    def moved() -> float:
        odd.load_state_dict(before)
        seed = derive_seed(MASTER, unmarked, "toy-1")
        weights, mark = embed(odd, odd, images, seed=seed, unmarked=unmarked, payload=Payload(5, 6), strength=0.01)
        held = images[: mark.parameters["images"]]
        with torch.no_grad():
            old = odd(held)
            odd.load_state_dict(weights)
            shift = odd(held) - old
        return float((shift - shift.mean(1, keepdim=True)).norm())  # a shift of all logits changes no answer

    still = moved()
    monkeypatch.setattr(embedding, "RIDGE", 1e9)  # takes nothing out
    assert still < 0.1 * moved()


def test_a_model_in_many_groups_is_marked_as_one_in_a_single_group(marked, odd, images, monkeypatch):
    _, weights, mark, seed = marked
    monkeypatch.setattr(embedding, "parts_of", lambda layers, rows: parts_of(layers, rows, memory=4 * rows * 100))
    again, _ = embed(odd, odd, images, seed=seed, unmarked=mark.unmarked, payload=Payload(5, 6), strength=0.05)
    for name, tensor in weights.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-4)


def test_the_mark_is_found_with_its_message(marked):
    before, weights, mark, seed = marked
    found = detect(weights, before, seed=seed, unmarked=mark.unmarked, payload=Payload(5, 6))
    assert found.z > 0.5 * mark.parameters["weights"] ** 0.5
    assert found.log10_p < -12
    read = detect(weights, before, seed=seed, unmarked=mark.unmarked, payload=None)
    assert read.log10_p > found.log10_p


def test_other_weights_than_the_bound_ones_are_refused(marked, odd, images):
    _, weights, mark, seed = marked
    with pytest.raises(InvalidInput, match="digest"):
        detect(weights, weights, seed=seed, unmarked=mark.unmarked, payload=None)
    odd.load_state_dict(weights)
    with pytest.raises(InvalidInput, match="digest"):
        embed(odd, odd, images, seed=seed, unmarked=mark.unmarked, payload=Payload(1))


def test_too_few_images_are_refused(odd, images):
    with pytest.raises(InvalidInput, match="at least 3 images"):
        embed(odd, odd, images[:2], seed=bytes(32), unmarked=weights_digest(odd.state_dict()), payload=Payload(1))
