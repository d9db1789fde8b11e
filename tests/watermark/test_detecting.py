import numpy as np
import pytest
import torch
from scipy.stats import kstest

from auditsvc.errors import InvalidInput
from auditsvc.watermark import Payload, derive_seed, detect, embed, reveal_subkey, verify_reveal, weights_digest
from auditsvc.watermark.detector import compare
from auditsvc.watermark.gradients import filter_scales
from auditsvc.watermark.watermark_keys import all_subkeys, carrier
from tests.bench.watermark.attacks import cast, disguised, narrowed, noisy, quantised
from tests.bench.watermark.digits import copied
from tests.watermark.conftest import MASTER, PAYLOAD, drawn


def found(marked, suspect, seed=None, payload=PAYLOAD, wiring=True):
    return detect(
        suspect,
        marked.original,
        seed=seed or marked.seed,
        unmarked=marked.unmarked,
        payload=payload,
        wiring=marked.wiring if wiring else None,
    )


def test_the_mark_is_found_with_its_message(marked):
    whole = found(marked, marked.weights)
    assert whole.z > 0.8 * marked.mark.parameters["weights"] ** 0.5
    assert (whole.bits_matched, whole.message) == (64, PAYLOAD)
    assert whole.log10_p < -128


def test_a_message_that_is_not_known_is_read_and_paid_for(marked):
    read = found(marked, marked.weights, payload=None)
    assert (read.message, read.bits_matched) == (PAYLOAD, 64)
    assert read.log10_p == pytest.approx(found(marked, marked.weights).log10_p + 64 * np.log10(2), abs=0.01)


def test_another_payload_seed_or_recipient_finds_nothing(marked):
    assert abs(found(marked, marked.weights, seed=bytes(range(1, 33))).z) < 5
    other = derive_seed(MASTER, marked.unmarked, "toy-1", "somebody")
    assert abs(found(marked, marked.weights, seed=other).z) < 5
    assert found(marked, marked.weights, payload=Payload(77, 1)).log10_p > found(marked, marked.weights).log10_p


def test_the_unmarked_model_and_an_empty_one_show_nothing(marked):
    assert found(marked, marked.original).z == 0.0
    nothing = found(marked, {})
    assert (nothing.z, nothing.log10_p, nothing.coordinates, nothing.bits_matched) == (0.0, 0.0, 0, 0)


def test_values_that_are_not_finite_count_as_missing(marked):
    broken = {name: tensor.clone() for name, tensor in marked.weights.items()}
    broken["blocks.4.conv1.weight"][0] = float("nan")
    broken["blocks.4.conv2.weight"][0] = float("inf")
    assert 0.9 * found(marked, marked.weights).z < found(marked, broken).z < np.inf


@pytest.mark.parametrize(
    ("attack", "share"),
    [
        (cast, 0.95),
        (lambda weights: quantised(weights, 8), 0.9),
        (lambda weights: quantised(weights, 4), 0.2),
        (lambda weights: noisy(weights, 0.2), 0.15),
    ],
    ids=["fp16", "int8", "int4", "noise"],
)
def test_what_changes_numbers_only_leaves_the_mark(marked, attack, share):
    assert found(marked, attack(marked.weights)).z > share * found(marked, marked.weights).z


def test_channels_that_were_renumbered_scaled_and_flipped_are_put_back(marked):
    suspect = quantised(disguised(marked.weights, marked.wiring), 8)
    hidden, seen = found(marked, suspect, wiring=False), found(marked, suspect)
    assert abs(hidden.z) < 5
    assert seen.z > 0.8 * found(marked, marked.weights).z
    assert (seen.aligned, seen.bits_matched) == (True, 64)


def test_channels_that_were_cut_out_are_missed_and_the_rest_is_found(marked):
    seen = found(marked, narrowed(marked.weights, marked.wiring, 0.3))
    assert seen.aligned
    assert seen.z > 0.4 * found(marked, marked.weights).z


def test_other_weights_than_the_bound_ones_are_refused(marked):
    changed = {name: tensor.clone() for name, tensor in marked.original.items()}
    changed["head.bias"][0] += 1e-6
    with pytest.raises(InvalidInput, match="digest"):
        detect(marked.weights, changed, seed=marked.seed, unmarked=marked.unmarked, payload=PAYLOAD)


@pytest.mark.parametrize("keys", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_random_keys_score_as_the_theory_says(marked, keys):
    suspects = (marked.weights, copied(drawn(1)), quantised(noisy(disguised(marked.weights, marked.wiring), 0.1), 8))
    for suspect in suspects:
        comparison = compare(suspect, marked.original, marked.wiring)
        tests = [
            comparison.judge(all_subkeys(derive_seed(MASTER, marked.unmarked, str(key))), marked.unmarked, Payload(key))
            for key in range(keys)
        ]
        scores = np.array([test.z for test in tests])
        assert abs(scores.mean()) < 0.4
        assert 0.8 < scores.std() < 1.22
        assert kstest(scores, "norm").pvalue > 1e-3
        assert min(test.log10_p for test in tests) > -6
        assert abs(np.mean([test.bits_matched for test in tests]) - 32) < 1.6


def test_a_forged_original_shows_nothing_once_its_digest_is_in_the_key_and_all_without(marked):
    guess = weights_digest(marked.weights)
    key = all_subkeys(bytes(range(7, 39)))

    def step(name, weight):
        signs = torch.from_numpy(carrier(key, guess, name, weight.numel()).carrying(PAYLOAD)).reshape(weight.shape)
        return 0.05 * filter_scales(weight) * signs

    forged = {n: w - step(n, w) if w.dim() > 1 else w for n, w in marked.weights.items()}
    comparison = compare(marked.weights, forged, None)
    assert comparison.judge(key, guess, PAYLOAD).z > 100
    assert abs(comparison.judge(key, weights_digest(forged), PAYLOAD).z) < 5


def test_one_sub_key_of_sixteen_proves_the_mark(marked):
    reveal = reveal_subkey(marked.seed, 11)
    part = verify_reveal(marked.weights, marked.original, reveal=reveal, mark=marked.mark, payload=PAYLOAD)
    whole = found(marked, marked.weights)
    assert part.z == pytest.approx(whole.z / 4, rel=0.1)
    assert part.coordinates == pytest.approx(whole.coordinates / 16, rel=0.1)


def test_a_sub_key_that_was_not_committed_to_is_refused(marked):
    reveal = reveal_subkey(bytes(32), 11)
    with pytest.raises(InvalidInput, match="not one that the mark commits to"):
        verify_reveal(marked.weights, marked.original, reveal=reveal, mark=marked.mark, payload=PAYLOAD)


def test_recipients_who_average_their_copies_are_both_traced(marked):
    seed = derive_seed(MASTER, marked.unmarked, "toy-1", "second")
    second, _ = embed(
        marked.net,
        marked.net,
        marked.images[:90],
        seed=seed,
        unmarked=marked.unmarked,
        payload=Payload(5, 7),
        strength=0.05,
    )
    mixed = {name: (tensor + second[name]) / 2 for name, tensor in marked.weights.items()}
    whole = found(marked, marked.weights).z
    assert found(marked, mixed).z == pytest.approx(whole / 2**0.5, rel=0.1)
    assert found(marked, mixed, seed=seed, payload=Payload(5, 7)).z == pytest.approx(whole / 2**0.5, rel=0.1)


def test_a_suspect_of_any_shape_is_read_without_a_crash(marked):
    draw = np.random.default_rng(0)
    for _ in range(20):
        odd = {
            name: torch.randn(tuple(int(n) for n in draw.integers(0, 9, draw.integers(0, 5))))
            if draw.random() < 0.3
            else tensor
            for name, tensor in marked.weights.items()
        }
        assert np.isfinite(found(marked, odd).z)
