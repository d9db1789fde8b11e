"""What does the candidate cost where it runs, and what does it save against its parent?

A smaller model is not a faster one: zeros cost what other weights cost, and a runtime's kernels like some shapes more.
The file that ships and the parent's answer single images in turns, on one thread, in clean processes of the runtime
that the policy names.  Quantiles have distribution-free intervals; the ratio has a bootstrap interval over pairs of
turns.  Times are those of the machine that measures, or those that a device sent (``litert/int8@pixel-8``).

Reference: V. J. Reddi et al. (2020), "MLPerf Inference Benchmark", arXiv:1911.02549 (single stream: tail latency).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.evaluation import Check, EvalContext, Run
from auditsvc.evaluation.latency import RunCost
from auditsvc.records import OVERALL, Measured, Metric, Reading, Unmeasured
from auditsvc.records.metric import MetricKind

_QUANTILES = {"latency_p50": 0.5, "latency_p95": 0.95, "latency_p99": 0.99}
_COUNTS = ("file_bytes", "compressed_bytes", "macs", "parameters")
_RUNS = ("cold_start", "throughput", "peak_memory")


def _quantity(name: str, unit: str, title: str) -> Metric:
    kind: MetricKind = "ratio" if name == "latency_ratio" else "quantity"
    counts = "exact" if name in _COUNTS else "run" if name in _RUNS else "turn"
    return Metric(id=name, kind=kind, unit=unit, title=title, counts=counts,
                  better="higher" if name == "throughput" else "lower")  # fmt: skip


_METRICS = tuple(_quantity(*one) for one in (
    ("latency_p50", "ms", "median latency of one image"), ("latency_p95", "ms", "95th percentile of the latency"),
    ("latency_p99", "ms", "99th percentile of the latency"),
    ("parent_latency_p50", "ms", "median latency of the parent for one image"),
    ("latency_ratio", "", "latency of one image as a multiple of the parent's"),
    ("cold_start", "ms", "opening the file and the first answer"),
    ("throughput", "images/s", "images in batches per second"), ("peak_memory", "bytes", "memory that the run adds"),
    ("file_bytes", "bytes", "size of the files that ship"), ("compressed_bytes", "bytes", "their size when compressed"),
    ("macs", "", "multiply-accumulates for one image"), ("parameters", "", "parameters"),
))  # fmt: skip


class Cost(Check):
    """Measure latency, memory, throughput and sizes of the candidate's file in ``run``; all on ``overall``.

    ``turns`` is even; the 99th percentile needs about 100 / alpha of them.  What is counted has no interval.
    """

    id = "cost"
    version = 1
    topics = frozenset({"perf.latency"})

    run: Run = "onnxruntime/float32"
    turns: Annotated[int, Field(ge=20, le=10_000, multiple_of=2)] = 400

    def metrics(self) -> tuple[Metric, ...]:
        """Times, memory and counts."""
        return _METRICS

    def cost(self) -> float:
        """Less than a pass over most data sets."""
        return 1.0

    @property
    def runs_named(self) -> tuple[str, ...]:
        """The one run."""
        return (self.run,)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One measurement."""
        try:
            if case.time_run is None:
                raise InvalidInput("no files were given to run")
            found = _outcomes(case.time_run(self.run, self.turns), case.alpha)
        except (InvalidInput, Unavailable) as error:
            found = dict.fromkeys((metric.id for metric in _METRICS), Unmeasured(reason=str(error)))
        yield from (Reading(metric=name, slice=OVERALL, outcome=outcome) for name, outcome in found.items())


def _outcomes(cost: RunCost, alpha: float) -> dict[str, Measured | Unmeasured]:
    turns, found = cost.single.times.shape[1], dict[str, Measured | Unmeasured]()
    for name, share in _QUANTILES.items():
        interval = cost.single.quantile(0, share, alpha)
        found[name] = Unmeasured(reason=f"{turns} turns are too few for an interval of the {share:.0%} quantile")
        if interval is not None:
            found[name] = _measured(float(interval.value), float(interval.low), float(interval.high), turns)
    found["latency_ratio"] = Unmeasured(reason=f"no file of the parent: {cost.no_parent}")
    found["parent_latency_p50"] = found["latency_ratio"]
    if not cost.no_parent:
        if (interval := cost.single.quantile(1, 0.5, alpha)) is not None:
            found["parent_latency_p50"] = _measured(
                float(interval.value), float(interval.low), float(interval.high), turns
            )
        ratio = cost.single.ratio(0, 1, alpha)
        found["latency_ratio"] = _measured(ratio.value, ratio.low, ratio.high, turns)
    found["cold_start"] = _spread(cost.cold_ms)
    found["peak_memory"] = Unmeasured(reason="the device does not say what memory the run takes")
    if cost.memory.size:
        found["peak_memory"] = _spread(cost.memory)
    found["throughput"] = _spread(1e3 * cost.batch_size / cost.batch)
    for name in _COUNTS:
        counted = cost.counts.get(name)
        found[name] = Unmeasured(reason=f"the {name} of this file are not counted")
        if counted is not None:
            found[name] = _measured(counted, counted, counted, 1)
    return found


def _measured(value: float, low: float, high: float, images: int) -> Measured:
    return Measured(value=value, low=min(low, value), high=max(high, value), images=images)


def _spread(values: NDArray[np.float64]) -> Measured:
    """The median of a few runs, with the smallest and the largest."""
    return _measured(float(np.median(values)), float(values.min()), float(values.max()), len(values))
