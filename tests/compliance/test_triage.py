"""Losses are ranked by how sure they are, and chance findings are few."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from auditsvc.compliance.assessment.assessment_context import Readings
from auditsvc.compliance.report.triage import FALSE_DISCOVERY_RATE, discovery_rates, triage
from auditsvc.evaluation.intervals import mcnemar
from auditsvc.records import Measured, Reading
from tests.compliance import sample


def found_in(counts: dict[str, tuple[int, int, int]]):
    """Losses of (lost, won, images) by slice, under one condition."""
    readings = []
    for name, (lost, won, images) in counts.items():
        change = (lost - won) / images
        end = 2 * (lost + won - (lost - won) ** 2 / images) ** 0.5 / images
        outcome = Measured(value=change, low=change - end, high=change + end, images=images,
                           lost=lost, won=won, p=float(mcnemar(lost, won)))  # fmt: skip
        readings.append(Reading(metric="drop.clean", slice=name, outcome=outcome))
    run = sample.evidence("accuracy", tuple(readings), sample.candidate())
    return triage({run.digest: run}, Readings({run.digest: run}))


def test_rates_are_those_of_an_independent_library():
    p = np.sort(np.random.default_rng(0).random(50) ** 3)
    assert discovery_rates(list(p)) == pytest.approx(list(stats.false_discovery_control(p)))


def test_a_small_group_with_bad_luck_does_not_rank_above_a_large_one_that_surely_lost():
    found = found_in({"tiny": (5, 0, 20), "large": (80, 0, 400), "quiet": (2, 2, 400)})
    assert [row.slice for row in found.rows] == ["large", "tiny"]
    assert found.rows[0].loss.value < found.rows[1].loss.value
    assert (found.significant, found.tested) == (2, 3)


def test_where_nothing_was_lost_nothing_stands_out():
    rng = np.random.default_rng(1)
    runs = [found_in({f"s{n}": (*rng.multinomial(300, [0.05, 0.05, 0.9])[:2], 300) for n in range(40)})
            for _ in range(60)]  # fmt: skip
    assert np.mean([bool(run.rows) for run in runs]) <= FALSE_DISCOVERY_RATE


def test_groups_without_a_test_are_not_looked_at():
    assert found_in({}).tested == 0
