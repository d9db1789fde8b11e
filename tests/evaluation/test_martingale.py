"""Looking for ever at values that do not change raises no alarm; a change does, soon, also after a long time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from auditsvc.evaluation.martingale import MOST, Bag, Martingale, MeanSequence, Stream, draw, nth_share


def watched(values, reference, seasons=lambda number: ""):
    found = Stream(list(reference))
    for number, value in enumerate(values):
        found.watch(value, draw("test", number), seasons(number))
    return found


def test_the_bets_are_fair_on_uniform_ranks():
    """The expected wealth after one bet on a uniform rank is the wealth before: 1."""
    made = []
    for place in range(20_000):
        one = Martingale()
        one.bet((place + 0.5) / 20_000)
        made.append(one.value)
    assert np.mean(made) == pytest.approx(1, abs=0.01)


def test_ranks_are_uniform_and_a_full_bag_stays_full():
    chance = np.random.default_rng(3)
    bag = Bag(sorted(chance.normal(size=MOST).tolist()))
    ranks = [bag.rank(float(chance.normal()), draw(number)) for number in range(4000)]
    assert len(bag.values) == MOST and bag.values == sorted(bag.values)
    counts = np.histogram(ranks, 10, (0, 1))[0]
    assert ((counts - 400) ** 2 / 400).sum() < 35  # 9 degrees of freedom: less in 99.99 % of all seeds; this one is set


@pytest.mark.parametrize("before", [0, 3000])
def test_a_change_is_seen_soon_also_after_a_long_time(before):
    chance = np.random.default_rng(5)
    found = watched(chance.normal(size=before), chance.normal(size=500))
    assert found.highest < 20
    for number in range(60):
        found.watch(float(chance.normal()) + 2, draw("after", number))
    assert found.highest > 1e4


def test_a_rhythm_is_a_change_unless_each_season_is_compared_with_itself():
    chance = np.random.default_rng(7)
    day = np.array([math.sin(2 * math.pi * (number % 24) / 24) for number in range(24 * 60)])
    values = 3 * day + chance.normal(size=len(day))
    assert watched(values, chance.normal(size=500)).highest > 1e6
    assert watched(values, [], lambda number: str(number % 24)).highest < 20


def test_a_confidence_sequence_holds_the_mean_and_gets_narrow():
    chance = np.random.default_rng(11)
    found = MeanSequence()
    for right in chance.random(1000) < 0.9:
        found.add(float(right), 0.05)
        assert found.interval[1] <= 0.9 <= found.interval[2]
    value, low, high = found.interval
    assert low <= value <= high and high - low < 0.1


def test_a_state_that_was_kept_goes_on_as_if_nothing_had_happened():
    chance = np.random.default_rng(13)
    values = chance.normal(size=40)
    whole, half = watched(values, [0.1, 0.2]), watched(values[:20], [0.1, 0.2])
    again = Stream.unpack(half.pack())
    for number, value in enumerate(values[20:], 20):
        again.watch(float(value), draw("test", number))
    assert again.pack().keys() == whole.pack().keys()
    assert all((again.pack()[name] == held).all() for name, held in whole.pack().items())


def test_the_shares_of_a_list_without_end_add_up_to_one():
    assert sum(nth_share(number) for number in range(1, 10_000)) == pytest.approx(1, abs=1e-3)
