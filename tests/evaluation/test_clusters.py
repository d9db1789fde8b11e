"""Intervals of clustered images keep their promise, and those of independent ones are what they were."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.datasets import Slices, column_from
from auditsvc.evaluation.paired import design_effects, paired_readings

ALPHA = 0.05


def drawn(clusters, each, rate, alike, seed):
    """Scores ``(clusters * each,)`` in 0/1: with chance ``alike`` an image does as its cluster does."""
    rng = np.random.default_rng(seed)
    common = np.repeat(rng.random(clusters) < rate, each)
    own = rng.random(clusters * each) < rate
    return np.where(rng.random(clusters * each) < alike, common, own).astype(float)


def level(scores, clusters):
    slices = Slices(len(scores), (), clusters)
    found = {item.metric: item.outcome for item in paired_readings("x", scores, scores, slices, None, ALPHA)}
    return found["score.x"]


@pytest.mark.parametrize("alike", [0.3, 0.8])
def test_the_lower_end_lies_above_the_truth_as_rarely_as_it_promises(alike):
    clusters = np.repeat(np.arange(60), 10)
    ends = [level(drawn(60, 10, 0.9, alike, seed), clusters) for seed in range(400)]
    assert np.mean([end.low > 0.9 for end in ends]) <= 0.065
    assert np.mean([end.high < 0.9 for end in ends]) <= 0.065
    blind = [level(drawn(60, 10, 0.9, alike, seed), None) for seed in range(400)]
    assert np.mean([end.low > 0.9 for end in blind]) > 0.07


def test_images_that_are_each_a_cluster_of_their_own_cost_little():
    scores = drawn(300, 1, 0.9, 0.0, 1)
    effect = design_effects(scores, Slices(300, (), np.arange(300)), None, ALPHA)
    assert effect == pytest.approx([1.0], abs=0.03)


def test_copies_of_one_image_tell_as_much_as_the_one():
    scores = np.repeat(drawn(50, 1, 0.7, 0.0, 2), 8)
    clustered = level(scores, np.repeat(np.arange(50), 8))
    single = level(scores[::8], np.arange(50))
    assert (clustered.low, clustered.high) == pytest.approx((single.low, single.high), abs=1e-9)
    assert (clustered.images, single.images) == (400, 50)


def test_where_nothing_changes_a_cluster_counts_as_one_image():
    slices = Slices(40, (column_from("kind", ["a", "b"] * 20),), np.repeat(np.arange(4), 10))
    effect = design_effects(np.zeros(40), slices, None, ALPHA)
    assert effect[0] / effect[1] == pytest.approx(10 / 5)
    assert effect[0] > 10


def test_one_cluster_alone_tells_nothing():
    found = level(np.ones(50), np.zeros(50, np.int64))
    assert found.low < 0.3


def test_a_loss_in_one_cluster_is_not_shown_however_many_images_it_has():
    parent, candidate = np.ones(200), np.r_[np.zeros(20), np.ones(180)]
    by_cluster, single = (
        next(item.outcome for item in paired_readings("x", parent, candidate, Slices(200, (), clusters), None, ALPHA)
             if item.metric == "drop.x")
        for clusters in (np.repeat(np.arange(10), 20), None)
    )  # fmt: skip
    assert single.p < 1e-5
    assert by_cluster.p > 0.05
    assert by_cluster.high > single.high
    assert (by_cluster.lost, by_cluster.won) == (20, 0)
