import zlib

import pytest
import torch
from scipy.stats import binomtest

from auditsvc.errors import InvalidInput
from auditsvc.records import Mark
from auditsvc.watermark import Payload, derive_seed, detect, embed, embedder, verify_commitment, weights_digest
from auditsvc.watermark.gradients import parts_of
from tests.watermark.conftest import MASTER, PAYLOAD


@pytest.fixture
def marked_odd(odd, images):
    unmarked = weights_digest(odd.state_dict())
    seed = derive_seed(MASTER, unmarked, "toy-1")
    before = {name: tensor.clone() for name, tensor in odd.state_dict().items()}
    weights, mark = embed(odd, odd, images, seed=seed, unmarked=unmarked, payload=PAYLOAD, strength=0.05)
    return before, weights, mark, seed


def test_names_dtypes_and_zeros_stay_as_they_were(marked_odd):
    before, weights, _, _ = marked_odd
    assert list(before) == list(weights)
    for name, tensor in before.items():
        assert (tensor.dtype, tensor.shape) == (weights[name].dtype, weights[name].shape)
        assert torch.equal(tensor == 0, weights[name] == 0)


def test_biases_normalisation_and_unreached_layers_stay_as_they_were(marked_odd):
    before, weights, mark, _ = marked_odd
    changed = [name for name in before if not torch.equal(before[name], weights[name])]
    assert changed == mark.parameters["layers"]


def test_the_model_itself_is_left_as_it_was(odd, images):
    before = {name: tensor.clone() for name, tensor in odd.state_dict().items()}
    odd.train()
    odd.first.weight.requires_grad_(False)
    seed = derive_seed(MASTER, weights_digest(before), "toy-1")
    embed(odd, odd, images, seed=seed, unmarked=weights_digest(before), payload=PAYLOAD, strength=0.05)
    assert all(torch.equal(before[name], tensor) for name, tensor in odd.state_dict().items())
    assert odd.training
    assert [p.requires_grad for p in odd.parameters()][:2] == [False, True]


def test_marking_again_gives_the_same_bits(marked_odd, odd, images):
    _, weights, mark, seed = marked_odd
    again, same = embed(odd, odd, images, seed=seed, unmarked=mark.unmarked, payload=PAYLOAD, strength=0.05)
    assert same == mark
    assert weights_digest(again) == weights_digest(weights)


def test_the_answers_move_far_less_than_under_bare_signs(odd, images, monkeypatch):
    unmarked = weights_digest(odd.state_dict())
    before = {name: tensor.clone() for name, tensor in odd.state_dict().items()}

    def moved() -> float:
        odd.load_state_dict(before)
        seed = derive_seed(MASTER, unmarked, "toy-1")
        weights, mark = embed(odd, odd, images, seed=seed, unmarked=unmarked, payload=PAYLOAD, strength=0.01)
        held = images[: mark.parameters["images"]]
        with torch.no_grad():
            old = odd(held)
            odd.load_state_dict(weights)
            shift = odd(held) - old
        return float((shift - shift.mean(1, keepdim=True)).norm())  # a shift of all logits changes no answer

    still = moved()
    monkeypatch.setattr(embedder, "RIDGE", 1e9)  # takes nothing out
    assert still < 0.1 * moved()


def test_a_model_in_many_groups_is_marked_as_one_in_a_single_group(marked_odd, odd, images, monkeypatch):
    _, weights, mark, seed = marked_odd
    monkeypatch.setattr(embedder, "parts_of", lambda layers, rows: parts_of(layers, rows, memory=4 * rows * 100))
    again, _ = embed(odd, odd, images, seed=seed, unmarked=mark.unmarked, payload=PAYLOAD, strength=0.05)
    for name, tensor in weights.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=2e-3)  # one step of the grid


def chosen(marked, **strength: float) -> tuple[dict[str, torch.Tensor], Mark]:
    return embed(
        marked.net,
        marked.net,
        marked.images[:90],
        seed=marked.seed,
        unmarked=marked.unmarked,
        payload=PAYLOAD,
        **strength,
    )


def test_the_strength_is_the_smallest_that_survives_the_stated_attacks(marked, monkeypatch):
    monkeypatch.setattr(embedder, "AIM", 1.0)
    monkeypatch.setitem(embedder.ATTACKS, "fine-tuned", lambda weight, scale: weight + 0.02 * scale * torch.randn(
        weight.shape, generator=torch.Generator().manual_seed(5)))  # fmt: skip
    weights, mark = chosen(marked)
    epsilon = mark.parameters["epsilon"]
    assert epsilon < 0.5 * embedder._usual(mark.parameters["weights"])
    found = {name: z for name, z in mark.fidelity.items() if name.startswith("z ")}
    assert set(found) == {"z unchanged", *(f"z {name}" for name in embedder.ATTACKS)}
    assert min(found.values()) >= embedder.FOUND
    _, weaker = chosen(marked, strength=epsilon * embedder.WEAKENING)
    assert min(z for name, z in weaker.fidelity.items() if name.startswith("z ")) < 1.1 * embedder.FOUND
    seen = detect(weights, marked.original, seed=marked.seed, unmarked=marked.unmarked, payload=PAYLOAD)
    assert seen.z == pytest.approx(found["z unchanged"], rel=1e-6)


@pytest.mark.slow
def test_a_brittle_model_has_a_weaker_mark_but_one_that_survives_number_formats(marked, monkeypatch):
    monkeypatch.setattr(embedder, "CHANGED", 1.0)
    monkeypatch.setattr(embedder, "AIM", -1.0)  # whatever changes is too much
    mark = chosen(marked)[1]
    monkeypatch.setattr(embedder, "AIM", 1.0)
    usual = chosen(marked)[1]
    assert mark.parameters["epsilon"] < usual.parameters["epsilon"]
    assert mark.fidelity["z 4-bit"] >= embedder.FOUND > mark.fidelity["z fine-tuned"]
    assert mark.fidelity["changed"] <= usual.fidelity["changed"]


def test_marked_weights_compress_better_than_weights_with_all_their_digits(marked):
    def size(weights: dict[str, torch.Tensor]) -> int:
        return len(
            zlib.compress(b"".join(weights[name].numpy().tobytes() for name in marked.mark.parameters["layers"]), 6)
        )

    assert size(chosen(marked)[0]) < 0.9 * size(marked.original)


def test_a_mark_that_changes_too_much_is_refused(marked, monkeypatch):
    monkeypatch.setattr(embedder, "CHANGED", -1.0)
    with pytest.raises(InvalidInput, match="answers change"):
        embed(marked.net, marked.net, marked.images[:30], seed=marked.seed, unmarked=marked.unmarked, payload=PAYLOAD)


@pytest.mark.parametrize("changed, judged, refused", [(1, 66, False), (3, 66, False), (4, 66, True), (24, 1000, True)])
def test_a_mark_is_refused_only_where_the_judged_images_show_that_too_many_answers_change(changed, judged, refused):
    assert (embedder._at_least(changed / judged, judged) > embedder.CHANGED) == refused
    tail = binomtest(changed, judged, embedder.CHANGED, alternative="greater").pvalue
    assert (tail < 1 - embedder.CONFIDENCE) == refused


def test_the_published_mark_fits_its_seed_and_payload_only(marked):
    assert verify_commitment(marked.mark, marked.seed, PAYLOAD)
    assert not verify_commitment(marked.mark, bytes(32), PAYLOAD)
    assert not verify_commitment(marked.mark, marked.seed, Payload(5, 7))
    weaker = marked.mark.model_copy(update={"parameters": marked.mark.parameters | {"epsilon": 0.04}})
    assert not verify_commitment(weaker, marked.seed, PAYLOAD)


def test_other_weights_than_the_bound_ones_are_refused(marked_odd, odd, images):
    _, weights, mark, seed = marked_odd
    odd.load_state_dict(weights)
    with pytest.raises(InvalidInput, match="digest"):
        embed(odd, odd, images, seed=seed, unmarked=mark.unmarked, payload=PAYLOAD)


def test_too_few_images_are_refused(odd, images):
    with pytest.raises(InvalidInput, match="at least 3 images"):
        embed(odd, odd, images[:2], seed=bytes(32), unmarked=weights_digest(odd.state_dict()), payload=PAYLOAD)
