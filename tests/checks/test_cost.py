"""The check of cost: quantiles and ratios with intervals that hold, counts without, and reasons for what is missing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from pydantic import ValidationError

from auditsvc.checks.cost import Cost
from auditsvc.errors import Unavailable
from auditsvc.evaluation.latency import RunCost, Turns
from auditsvc.records import Measured, Unmeasured
from tests.fakes.models import SeesMeanBrightness, case_of, grey_dataset

COUNTS = {"file_bytes": 1000.0, "compressed_bytes": 600.0, "parameters": 70.0}


def a_cost(turns: int = 400, **changes: object) -> RunCost:
    chance = np.random.default_rng(0)
    shared = 1 + 0.2 * chance.random(turns)  # what the machine does slows both
    times = np.stack((2.0 * shared, 4.0 * shared)) * np.exp(chance.normal(0, 0.05, (2, turns)))
    fields = {"single": Turns(times), "batch": np.array([30.0, 32.0, 40.0]), "batch_size": 32, "counts": COUNTS,
              "cold_ms": np.array([9.0, 11.0, 10.0]), "memory": np.array([5e6, 6e6, 7e6])}  # fmt: skip
    return RunCost(**(fields | changes))


def found_in(time_run):
    case = case_of(SeesMeanBrightness(), SeesMeanBrightness(), grey_dataset([0.1, 0.9]))
    return {one.metric: one.outcome for one in Cost().measure(dataclasses.replace(case, time_run=time_run))}


def test_every_metric_has_its_number_interval_and_runs():
    found = found_in(lambda _run, _turns: a_cost())
    assert set(found) == {metric.id for metric in Cost().metrics()}
    ratio = found["latency_ratio"]
    assert ratio.low < 0.5 < ratio.high < 0.52 and ratio.images == 400
    assert (
        found["latency_p50"].value < found["latency_p95"].low <= found["latency_p95"].value < found["latency_p99"].value
    )
    cold = found["cold_start"]
    assert (cold.value, cold.low, cold.high, cold.images) == (10.0, 9.0, 11.0, 3)
    assert (found["throughput"].value, found["throughput"].low) == (1000.0, 800.0)
    assert found["file_bytes"] == Measured(value=1000, low=1000, high=1000, images=1)
    assert found["macs"] == Unmeasured(reason="the macs of this file are not counted")


def test_what_can_not_be_measured_says_why():
    few = found_in(lambda _run, _turns: a_cost(40, no_parent="there is no model.tflite of the parent"))
    assert isinstance(few["latency_p50"], Measured)
    assert few["latency_p99"].reason == "40 turns are too few for an interval of the 99% quantile"
    assert few["latency_ratio"].reason == "no file of the parent: there is no model.tflite of the parent"

    def missing(_run, _turns):
        raise Unavailable("mnn is not installed")

    assert set(found_in(missing).values()) == {Unmeasured(reason="mnn is not installed")}
    with pytest.raises(ValidationError, match=r"known: .*mnn/float32"):
        Cost(run="mnn/int8")


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_a_quantile_s_interval_misses_at_each_end_no_more_than_alpha(share):
    chance, alpha, many = np.random.default_rng(1), 0.05, 600
    true = np.quantile(chance.exponential(size=2_000_000), share)
    ends = [Turns(chance.exponential(size=(1, 200))).quantile(0, share, alpha) for _ in range(many)]
    under = np.mean([one.low > true for one in ends if one])
    over = np.mean([one.high < true for one in ends if one])
    assert max(under, over) <= alpha + 3 * (alpha * (1 - alpha) / many) ** 0.5
