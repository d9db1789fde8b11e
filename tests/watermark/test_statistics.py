import itertools
import math

import numpy as np
import pytest
from scipy.stats import norm

from auditsvc.watermark.significance import BOUND, log10_p, normalize_residuals, weighted_median


def test_the_constant_is_the_published_one():
    assert 3.178 < BOUND < 3.179


@pytest.mark.parametrize("weights", [[1.0], [1, 1], [1] * 12, [5, 1, 1, 1, 0.5], list(range(1, 13))])
def test_the_bound_holds_for_every_outcome_of_few_coins(weights):
    values = np.array(weights, float)
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(values))))
    scores = signs @ values / np.linalg.norm(values)
    for reached in np.unique(scores.round(9)):
        chance = np.mean(scores >= reached - 1e-8)
        assert chance <= 10 ** log10_p(reached) + 1e-12


def test_p_of_a_large_score_does_not_vanish():
    assert log10_p(453.0) == pytest.approx(-44_580, rel=1e-3)
    assert log10_p(7.2) < -12 < log10_p(7.1)
    assert log10_p(-3.0) == 0.0


def test_tries_multiply_p():
    assert log10_p(8.0, tries=1000.0) == pytest.approx(log10_p(8.0) + 3)
    assert log10_p(5.0) == pytest.approx(math.log10(BOUND * norm.sf(5.0)))


def test_the_median_weighs():
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 10.0])) == 2.0


def test_a_shaken_filter_counts_for_less_and_a_tiny_one_does_not_drown_the_rest():
    draw = np.random.default_rng(0)
    calm, shaken = draw.choice([-1.0, 1.0], 100), 50 * draw.choice([-1.0, 1.0], 100)
    tiny = np.array([1e-9, -1e-9])
    values = np.concatenate([calm, shaken, tiny]).astype(np.float32)
    filters = np.repeat([0, 1, 2], [100, 100, 2])
    (even,) = normalize_residuals([values], [filters])
    assert np.abs(even[:100]).min() > 10 * np.abs(even[100:200]).max()
    assert np.abs(even[200:]).max() < np.abs(even[:100]).min()
