"""The change of the gap between groups: what a margin for each group alone lets through."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.checks.accuracy import _gap_changes
from auditsvc.datasets import Slices, column_from
from auditsvc.evaluation import Pair
from auditsvc.evaluation.paired import empty_predictions
from auditsvc.records import Measured, Unmeasured


def pair_of(*groups):
    """A pair from ``(name, images, lost, won)``, and its one column."""
    parents, candidates, names = [], [], []
    for name, images, lost, won in groups:
        parent, candidate = np.ones(images), np.ones(images)
        candidate[:lost], parent[lost : lost + won] = 0, 0
        parents.append(parent)
        candidates.append(candidate)
        names += [name] * images
    made = [empty_predictions(len(names), 0) for _ in range(2)]
    for answers, scores in zip(made, (parents, candidates), strict=True):
        answers["score"] = np.concatenate(scores)
    return Pair("clean", *made, None), (column_from("gender", names),)


def changes(pair, columns, clusters=None):
    slices = Slices(len(pair.parent), columns, clusters)
    return {one.slice: one.outcome for one in _gap_changes(pair, slices, 0.05)}


def test_a_swap_between_two_groups_is_seen_as_the_sum_of_both():
    """Men lose 2.3 points and women gain 1.8: each within five points, together a shift of 4.1."""
    found = changes(*pair_of(("men", 4000, 120, 28), ("women", 4000, 20, 92)))
    men, women = found["gender=men"], found["gender=women"]
    assert men.value == pytest.approx(0.023 + 0.018)
    assert 0.034 < men.low < men.value < men.high < 0.048
    assert (women.value, women.low, women.high) == pytest.approx((-men.value, -men.high, -men.low))


def test_every_group_is_held_against_all_others_of_its_column():
    found = changes(*pair_of(("a", 300, 30, 0), ("b", 300, 0, 0), ("c", 300, 0, 0)))
    assert found["gender=a"].value == pytest.approx(0.1) and found["gender=a"].low > 0.05
    assert found["gender=b"].value == pytest.approx(-0.05)


@pytest.mark.slow
def test_the_interval_keeps_its_promise_over_pairs_of_groups():
    rng, missed = np.random.default_rng(3), []
    for _ in range(200):
        lost, won = rng.binomial(250, 0.05), rng.binomial(250, 0.01)
        other = rng.binomial(125, 0.01), rng.binomial(125, 0.03)
        found = changes(*pair_of(("a", 250, lost, won), ("b", 125, *other)))["gender=a"]
        missed.append((found.high < 0.06, found.low > 0.06))
    assert np.mean(missed, axis=0).max() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)  # three standard errors of 200 runs


def test_a_group_alone_has_no_gap_and_few_clusters_show_none():
    (alone,) = changes(*pair_of(("a", 100, 2, 0))).values()
    assert isinstance(alone, Unmeasured) and "gender" in alone.reason
    pair, columns = pair_of(("a", 400, 2, 0), ("b", 400, 2, 0))
    few = changes(pair, columns, np.arange(800) // 100)["gender=a"]
    assert isinstance(few, Measured) and few.high >= 1.0
