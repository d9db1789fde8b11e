"""The mark as a property like any other: found, read, and what it cost."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from auditsvc.checks.watermark import Watermark
from auditsvc.evaluation import WatermarkReading
from auditsvc.evaluation.intervals import tango
from auditsvc.records import Measured, Unmeasured


def a_mark(
    log10_p: float,
    z: float,
    matched: int,
    total: int,
    share: float,
    *,
    images: int,
    lost: int,
    won: int,
    clusters: np.ndarray | None = None,
) -> WatermarkReading:
    change = np.zeros(images)
    change[:lost], change[lost : lost + won] = 1, -1
    flipped = np.arange(images) < round(share * images)
    return WatermarkReading(log10_p, z, matched, total, flipped, change, clusters)


def readings(mark: WatermarkReading | None) -> dict[str, Measured | Unmeasured]:
    case = SimpleNamespace(read_mark=(lambda: mark) if mark else None, alpha=0.05)
    return {reading.metric: reading.outcome for reading in Watermark().measure(case)}


def test_every_metric_is_given_whether_there_is_a_mark_or_not() -> None:
    mark = a_mark(-50.0, 15.0, 63, 64, 0.02, images=1000, lost=12, won=8)
    assert set(readings(mark)) == set(readings(None)) == {one.id for one in Watermark().metrics()}
    assert all(isinstance(outcome, Unmeasured) for outcome in readings(None).values())


def test_detection_is_exact_and_costs_have_intervals() -> None:
    found = readings(a_mark(-50.0, 15.0, 63, 64, 0.02, images=1000, lost=12, won=8))
    assert (found["log10_p"].value, found["log10_p"].low, found["log10_p"].high) == (-50.0, -50.0, -50.0)
    assert found["bit_accuracy"].value == 63 / 64
    assert found["flips"].low < 0.02 < found["flips"].high
    assert found["accuracy_cost"].value == pytest.approx(0.004)
    assert found["accuracy_cost"].low < 0 < found["accuracy_cost"].high


def test_few_images_leave_the_cost_open() -> None:
    few = readings(a_mark(-50.0, 15.0, 64, 64, 0.0, images=20, lost=0, won=0))["accuracy_cost"]
    many = readings(a_mark(-50.0, 15.0, 64, 64, 0.0, images=2000, lost=0, won=0))["accuracy_cost"]
    assert few.high > 0.05 > 0.005 > many.high > 0


def test_the_cost_is_tangos_interval_of_the_images_lost_and_won() -> None:
    cost = readings(a_mark(-50.0, 15.0, 64, 64, 0.0, images=500, lost=12, won=8))["accuracy_cost"]
    known = tango(12, 8, 500, 0.05)
    assert (cost.value, cost.low, cost.high) == (float(known.value), float(known.low), float(known.high))


def test_flips_in_one_cluster_are_less_certain_than_as_many_in_many() -> None:
    clusters = np.arange(1000) // 20
    alone, clustered = (readings(a_mark(-50.0, 15.0, 63, 64, 0.02, images=1000, lost=0, won=0, clusters=one))["flips"]
                        for one in (None, clusters))  # fmt: skip
    assert isinstance(alone, Measured) and isinstance(clustered, Measured)
    assert clustered.high > 2 * alone.high
    assert (clustered.clusters, clustered.design_effect) == (50, pytest.approx(20.4, abs=0.5))
