"""Latency and memory of a model together with its parent, on one thread.

Both models take turns in the same run, so that whatever else the machine is doing slows both, and the order of a turn
is the reverse of the last one's, so that none always runs on what the other left in the caches.  The ratio of two
latencies is that of the same turns, with an interval by a bootstrap over pairs of turns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.evaluation.intervals import Interval
from auditsvc.models.model import Model
from auditsvc.runtimes.onnx_export import onnx_bytes
from auditsvc.runtimes.onnxruntime import Session, session

WARM_UP, RESAMPLES = 4, 2000


@dataclass(frozen=True)
class Latency:
    """One image on one thread: median and interquartile range, in ms, over ``runs`` runs."""

    median_ms: float
    iqr_ms: float
    runs: int


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the second is as the first, with the ends of the 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Turns:
    """Times in ms, ``(works, turns)``: an even number of turns, each in the reverse order of the last."""

    times: NDArray[np.float64]

    def __getitem__(self, place: int) -> Latency:
        """The summary of one work."""
        low, median, high = np.quantile(self.times[place], (0.25, 0.5, 0.75))
        return Latency(float(median), float(high - low), self.times.shape[1])

    def quantile(self, place: int, share: float, alpha: float) -> Interval | None:
        """A quantile of one work's times, each end a one-sided bound at ``alpha``; None with too few turns for one.

        The ends are order statistics, so they hold for any distribution of independent times (H. A. David and
        H. N. Nagaraja 2003, "Order Statistics", section 7.1).
        """
        times, many = np.sort(self.times[place]), self.times.shape[1]
        low, high = int(binom.ppf(alpha, many, share)) - 1, int(binom.ppf(1 - alpha, many, share))
        if low < 0 or high >= many:
            return None
        return Interval(np.quantile(times, share), times[low], times[high])

    def ratio(self, first: int, second: int, alpha: float = 0.025) -> Ratio:
        """The median of each turn's ratio; each end is a one-sided bound at ``alpha``.

        A turn and its reverse count as one, by their geometric mean, and pairs are drawn with replacement: the
        percentile bootstrap, B. Efron (1979), doi:10.1214/aos/1176344552.
        """
        logs = np.log(self.times[first] / self.times[second]).reshape(-1, 2).mean(1)
        drawn = np.random.default_rng(0).integers(0, len(logs), (RESAMPLES, len(logs)))
        low, high = np.quantile(np.median(logs[drawn], axis=1), (alpha, 1 - alpha))
        return Ratio(*(float(np.exp(log)) for log in (np.median(logs), low, high)))


@dataclass(frozen=True)
class RunCost:
    """What a candidate's file costs in a runtime, and its parent in the same, in alternating turns.

    ``single`` has one image a turn, of the candidate and, where there is a file for it, the parent; ``batch`` the ms
    of batches of ``batch_size``; ``cold_ms`` opening and the first answer, ``memory`` what both add in bytes, once for
    each of several processes; ``memory`` is empty where it is not known.  ``counts``: ``file_bytes``,
    ``compressed_bytes`` and what the candidate's card has.
    """

    single: Turns
    batch: NDArray[np.float64]
    batch_size: int
    cold_ms: NDArray[np.float64]
    memory: NDArray[np.float64]
    counts: Mapping[str, float]
    no_parent: str = ""
    """Why there is no file of the parent to compare with."""


def latencies(models: Sequence[Model], images: Tensor, *, runs: int = 30) -> Turns:
    """The latency of each model for the first image, measured in turns in ONNX Runtime on one thread.

    Raises:
        Refused: a model that can't be written as ONNX or does not answer alike there.
    """
    sessions = [session(onnx_bytes(model, images)) for model in models]
    return time_in_turns(
        [_once(running, model.fitted(images)) for running, model in zip(sessions, models, strict=True)], runs
    )


def _once(running: Session, images: Tensor) -> Callable[[], object]:
    one = images[:1].contiguous().numpy()
    return lambda: running.run(one, "outputs")


def time_in_turns(works: Sequence[Callable[[], object]], runs: int) -> Turns:
    """The time that each piece of work takes, one run of each in turn.  Raises as ``in_turns``."""

    def timed(work: Callable[[], object]) -> Callable[[int], float]:
        def once(_turn: int) -> float:
            start = time.perf_counter_ns()
            work()
            return (time.perf_counter_ns() - start) / 1e6

        return once

    return in_turns([timed(work) for work in works], runs)


def in_turns(works: Sequence[Callable[[int], float]], runs: int) -> Turns:
    """The ms that each piece of work gives for a turn, one run of each in turn.

    Raises:
        InvalidInput: an odd number of runs, or fewer than 4.
    """
    if runs < 4 or runs % 2:
        raise InvalidInput(f"latency is measured in an even number of at least 4 turns, not {runs}")
    times = np.zeros((len(works), WARM_UP + runs))
    for turn in range(WARM_UP + runs):
        for place in range(len(works))[:: 1 if turn % 2 == 0 else -1]:
            times[place, turn] = works[place](turn)
    return Turns(times[:, WARM_UP:])
