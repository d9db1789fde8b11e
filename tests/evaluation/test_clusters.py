"""Intervals of clustered images keep their promise, and those of independent ones are what they were."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from auditsvc.datasets import Slices, column_from
from auditsvc.evaluation import tango
from auditsvc.evaluation.paired import FEWEST_CLUSTERS, Sample, levels, losses, paired_readings

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


def many(draw, runs, clusters, each):
    """The scores of ``runs`` samples as one, each a slice of its own."""
    images = clusters * each
    column = column_from("run", [str(run) for run in range(runs) for _ in range(images)])
    return Sample(np.concatenate([draw(run) for run in range(runs)]),
                  Slices(runs * images, (column,), np.repeat(np.arange(runs * clusters), each)), None)  # fmt: skip


@pytest.mark.parametrize("alike", [0.3, 0.8])
def test_the_lower_end_lies_above_the_truth_as_rarely_as_it_promises(alike):
    sample = many(lambda run: drawn(60, 10, 0.9, alike, run), 400, 60, 10)
    found = levels(sample, ALPHA)
    assert np.mean(found.low[1:] > 0.9) <= 0.065
    assert np.mean(found.high[1:] < 0.9) <= 0.065
    blind = levels(Sample(sample.values, Slices(sample.slices.images, sample.slices.columns), None), ALPHA)
    assert np.mean(blind.low[1:] > 0.9) > 0.07


def test_images_that_are_each_a_cluster_of_their_own_cost_nothing():
    scores = drawn(300, 1, 0.9, 0.0, 1)
    alone, plain = (level(scores, clusters) for clusters in (np.arange(300), None))
    assert (alone.low, alone.high, alone.clusters, alone.design_effect) == (plain.low, plain.high, 300, 1.0)
    assert (plain.clusters, plain.design_effect) == (None, None)


def test_copies_of_one_image_tell_as_much_as_the_one():
    scores = np.repeat(drawn(50, 1, 0.7, 0.0, 2), 8)
    clustered = level(scores, np.repeat(np.arange(50), 8))
    single = level(scores[::8], np.arange(50))
    assert single.low - 0.02 < clustered.low < single.low and single.high < clustered.high < single.high + 0.02
    assert (clustered.images, clustered.clusters, single.images) == (400, 50, 50)
    assert clustered.design_effect == pytest.approx(8 * 50 / 49, abs=1e-3)


def test_where_nothing_changes_a_cluster_counts_as_one_image():
    slices = Slices(40, (column_from("kind", ["a", "b"] * 20),), np.repeat(np.arange(4), 10))
    effect = Sample(np.zeros(40), slices, None).design_effects()
    assert effect.tolist() == [10.0, 5.0, 5.0]


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


def loss_in(clusters, each, lost):
    """The overall loss where the first ``lost`` images of ``clusters`` equal clusters are lost."""
    numbers = np.repeat(np.arange(clusters), each)
    change = (np.arange(len(numbers)) < lost).astype(float)
    found = losses(Sample(change, Slices(len(change), (), numbers), None), ALPHA)
    return float(found.low[0]), float(found.high[0])


def test_the_upper_end_rises_with_every_image_that_is_lost():
    ends = [loss_in(20, 50, lost)[1] for lost in range(0, 120, 3)]
    assert ends[0] > 0.12
    assert all(later > earlier for earlier, later in pairwise(ends))


@pytest.mark.parametrize("clusters", [FEWEST_CLUSTERS - 1, FEWEST_CLUSTERS])
def test_fewer_clusters_than_ten_can_fail_and_never_pass(clusters):
    assert (loss_in(clusters, 50, 0)[1] == 1.0) == (clusters < FEWEST_CLUSTERS)
    assert loss_in(clusters, 50, 50 * clusters)[0] > 0.4
    few = level(np.r_[0.0, np.ones(50 * clusters - 1)], np.repeat(np.arange(clusters), 50))
    assert ((few.low, few.high) == (0.0, 1.0)) == (clusters < FEWEST_CLUSTERS)


@pytest.mark.parametrize(("clusters", "alike"), [(10, 1.0), (20, 0.2), (20, 1.0), (60, 0.05), (60, 1.0)])
def test_a_loss_on_the_limit_is_seldom_approved_however_alike_the_images_of_a_cluster_are(clusters, alike):
    """A rule "at most 5 points" and a true loss of 5, where 20 % of the answers change."""
    rng, each, runs = np.random.default_rng(5), 30, 500
    shares = np.array([0.125, 0.075, 0.8])
    chance = rng.dirichlet(shares * (1 - alike) / alike, (runs, clusters)) if alike < 1 else (
        np.eye(3)[rng.choice(3, (runs, clusters), p=shares)])  # fmt: skip
    counts = rng.multinomial(each, chance).reshape(-1, 3)
    change = np.concatenate([np.repeat([1.0, -1.0, 0.0], one) for one in counts]).reshape(runs, -1)
    assert np.mean(losses(many(change.__getitem__, runs, clusters, each), ALPHA).high[1:] < 0.05) <= 0.065


def test_clusters_of_one_image_beside_larger_ones_are_clusters_too():
    change, clusters = np.r_[np.ones(3), np.zeros(97)], np.r_[np.zeros(20, int), np.arange(1, 81)]
    clustered = losses(Sample(change, Slices(100, (), clusters), None), ALPHA)
    assert float(clustered.high[0]) > float(tango(3, 0, 100, ALPHA).high)
