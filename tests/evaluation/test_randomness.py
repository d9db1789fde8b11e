"""Chance belongs to the image: no batch, order or part of a draw can change it."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from auditsvc.evaluation import image_seeds, normal, uniform

SEEDS = image_seeds(11, "test", torch.arange(64))


@given(st.permutations(range(64)), st.integers(1, 64))
def test_order_and_batch_size_never_change_a_draw(order, size):
    whole = uniform(SEEDS, (3, 4))
    parts = [uniform(SEEDS[list(order[start : start + size])], (3, 4)) for start in range(0, 64, size)]
    assert torch.equal(torch.cat(parts), whole[list(order)])


def test_a_seed_depends_on_run_purpose_and_image():
    numbers = torch.arange(1000)
    seeds = {
        int(seed) for run, purpose in ((1, "a"), (2, "a"), (1, "b")) for seed in image_seeds(run, purpose, numbers)
    }
    assert len(seeds) == 3000


def test_uniform_draws_are_uniform_and_independent_across_streams_and_images():
    seeds = image_seeds(3, "spread", torch.arange(400))
    one, other = uniform(seeds, (500,)).double().numpy(), uniform(seeds, (500,), stream=1).double().numpy()
    assert stats.kstest(one.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(one[:-1].ravel(), one[1:].ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(one[:, :-1].ravel(), one[:, 1:].ravel())[0, 1]) < 0.01


def test_normal_draws_are_normal():
    drawn = normal(image_seeds(5, "bell", torch.arange(200)), (1000,)).double().numpy().ravel()
    assert stats.kstest(drawn, "norm").pvalue > 1e-3
    assert (abs(drawn.mean()), abs(drawn.std() - 1)) < (0.01, 0.01)


def test_a_long_draw_is_the_hash_of_each_place():
    """In plain Python integers, at places in the first and in later blocks."""
    word, golden = (1 << 64) - 1, -7046029254386353131

    def mixed(value: int) -> int:
        value = ((value ^ (value >> 30)) * -4658895280553007687) & word
        value = ((value ^ (value >> 27)) * -7723592293110705685) & word
        return value ^ (value >> 31)

    found = uniform(SEEDS[:3], (100_000,), 4)
    for image, seed in enumerate(SEEDS[:3].tolist()):
        start = mixed((seed + 5 * golden) & word)
        for place in (0, 1, 10_921, 10_922, 10_923, 65_537, 99_999):
            assert float(found[image, place]) == (mixed((start + place * golden) & word) >> 40) / (1 << 24)
