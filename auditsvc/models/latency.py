"""Latency measurement: ONNX Runtime, one thread, batch size 1, a model together with its parent.

Both models take turns in the same run, so that whatever else the machine is doing slows both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.models.model import Model
from auditsvc.models.onnx_export import onnx_bytes, session

WARM_UP = 3


@dataclass(frozen=True)
class Latency:
    """One image on one thread: median and interquartile range, in ms, over ``runs`` runs."""

    median_ms: float
    iqr_ms: float
    runs: int


def latencies(models: Sequence[Model], images: Tensor, *, runs: int = 30) -> tuple[Latency, ...]:
    """The latency of each model for the first image, measured in turns in ONNX Runtime on one thread.

    Raises:
        Refused: a model that can't be written as ONNX or does not answer alike there.
        Unavailable: ``onnxruntime`` is not installed.
    """
    if runs < 4:
        raise InvalidInput("an interquartile range needs at least 4 runs")
    sessions = [session(onnx_bytes(model, images)) for model in models]
    return time_in_turns(
        [_once(running, model.fitted(images)) for running, model in zip(sessions, models, strict=True)], runs
    )


def _once(running: Any, images: Tensor) -> Callable[[], object]:
    feed = {"images": images[:1].contiguous().numpy()}
    return lambda: running.run(None, feed)


def time_in_turns(works: Sequence[Callable[[], object]], runs: int) -> tuple[Latency, ...]:
    """The time that each piece of work takes, one run of each in turn."""
    times: list[list[float]] = [[] for _ in works]
    for turn in range(WARM_UP + runs):
        for place, work in enumerate(works):
            start = time.perf_counter_ns()
            work()
            if turn >= WARM_UP:
                times[place].append((time.perf_counter_ns() - start) / 1e6)
    return tuple(_summary(taken) for taken in times)


def _summary(taken: list[float]) -> Latency:
    low, median, high = statistics.quantiles(taken, n=4)
    return Latency(median, high - low, len(taken))
