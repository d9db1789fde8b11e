"""A planted group is found on one half and told on the other; where nothing is lost, nothing stands out."""

from __future__ import annotations

import numpy as np
import pytest

from auditsvc.datasets.dataset import Slices, column_from
from auditsvc.evaluation.slice_discovery import discovered_slices, halves

ROWS = 2000


def columns(seed):
    rng = np.random.default_rng(seed)
    made = {name: rng.choice([f"{name}{number}" for number in range(4)], ROWS) for name in ("cam", "town", "size")}
    return made, Slices(ROWS, tuple(column_from(name, list(values)) for name, values in made.items()))


def test_a_group_of_two_columns_is_found_and_holds_on_the_other_half():
    made, slices = columns(0)
    rng = np.random.default_rng(1)
    planted = (made["cam"] == "cam2") & (made["town"] == "town1")
    change = (rng.random(ROWS) < np.where(planted, 0.4, 0.02)).astype(float)
    groups, tried = discovered_slices(change, slices, 7, 0.05)
    assert groups[0].expression == "cam=cam2 & town=town1"
    assert groups[0].adjusted < 0.001
    assert 0.25 < groups[0].held.value < 0.55
    assert tried > 50


@pytest.mark.slow
def test_what_the_search_flatters_the_other_half_does_not_bear_out():
    false, flattered = [], []
    for seed in range(60):
        _, slices = columns(seed)
        change = np.random.default_rng(seed).choice([-1.0, 0.0, 1.0], ROWS, p=[0.03, 0.94, 0.03])
        groups, _ = discovered_slices(change, slices, seed, 0.05)
        false.append(any(group.adjusted <= 0.05 for group in groups))
        flattered.append(groups[0].found.value - groups[0].held.value)
    assert np.mean(false) <= 0.1
    assert np.mean(flattered) > 0.03


def test_suggestions_are_not_the_same_group_twice():
    made, slices = columns(2)
    change = (made["cam"] == "cam0").astype(float)
    groups, _ = discovered_slices(change, slices, 7, 0.05)
    assert groups[0].expression == "cam=cam0"
    assert all("cam=cam0" not in group.expression for group in groups[1:])


@pytest.mark.parametrize("clusters", [None, np.repeat(np.arange(40), 5)])
def test_the_halves_share_no_image_and_no_cluster(clusters):
    search, judge = halves(200, clusters, 3)
    assert sorted([*search, *judge]) == list(range(200))
    if clusters is not None:
        assert not set(clusters[search]) & set(clusters[judge])
    assert np.array_equal(halves(200, clusters, 3)[0], search)


def test_clusters_make_the_loss_less_certain():
    rng = np.random.default_rng(4)
    kind = rng.choice(["a", "b"], 400)
    change = ((kind == "a") & (rng.random(400) < 0.3)).astype(float)
    column = (column_from("kind", list(kind)),)
    alone, together = (
        discovered_slices(change, Slices(400, column, clusters), 1, 0.05)[0][0]
        for clusters in (None, np.arange(400) // 20)
    )
    assert together.expression == alone.expression == "kind=a"
    assert together.held.high - together.held.low > alone.held.high - alone.held.low
