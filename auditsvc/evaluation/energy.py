"""Energy for one image, from a counter or a meter and from nothing else.

Power under load less power at rest, over at least 60 s of each, as MLPerf Power asks; each is cut into windows of 10 s,
whose spread gives the interval (Welch).  A machine without a counter gives no number: an estimate from the load of the
CPU is not a measurement.

Reference: A. Tschand et al. (2025), "MLPerf Power: Benchmarking the Energy Efficiency of Machine Learning Systems from
Microwatts to Megawatts for Sustainable AI", arXiv:2410.12032.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from auditsvc.errors import InvalidInput, Unavailable

SECONDS, WINDOW = 60.0, 10.0
POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Power:
    """Mean watts of windows under load and at rest, the images per second under load, and what measured it."""

    load: NDArray[np.float64]
    idle: NDArray[np.float64]
    images_per_s: float
    images: int
    meter: str

    def joules(self, alpha: float) -> tuple[float, float, float]:
        """Joules for one image, with one-sided bounds at ``alpha``."""
        spread = [one.var(ddof=1) / len(one) for one in (self.load, self.idle)]
        total = sum(spread)
        value = float(self.load.mean() - self.idle.mean())
        free = total**2 / sum(s**2 / (len(one) - 1) for s, one in zip(spread, (self.load, self.idle), strict=True)) \
            if total else 1.0  # fmt: skip
        reach = float(t.ppf(1 - alpha, free)) * math.sqrt(total)
        return value / self.images_per_s, (value - reach) / self.images_per_s, (value + reach) / self.images_per_s


class Rapl:
    """The energy counters of the CPU packages (Linux powercap).

    Raises:
        Unavailable: there are none, or they can't be read; with the reason.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones = sorted(root.glob("intel-rapl:[0-9]")) if root.is_dir() else []
        if not self._zones:
            raise Unavailable(f"this machine has no energy counter ({root}); send a meter's log with a device's kit")
        self._last, self._total = [self._read(zone) for zone in self._zones], 0.0

    def joules(self) -> float:
        """Joules since the first reading; a counter that wrapped is taken on."""
        now = [self._read(zone) for zone in self._zones]
        for zone, before, after in zip(self._zones, self._last, now, strict=True):
            wrapped = self._read(zone, "max_energy_range_uj") if after < before else 0
            self._total += (after - before + wrapped) / 1e6
        self._last = now
        return self._total

    @staticmethod
    def _read(zone: Path, name: str = "energy_uj") -> int:
        try:
            return int((zone / name).read_text())
        except (OSError, ValueError) as error:
            raise Unavailable(f"the energy counter {zone / name} can't be read: {error}") from error


def counted(
    counter: Rapl, work: Callable[[], int], clock: Callable[[], float], sleep: Callable[[float], None]
) -> Power:
    """Rest and then load for 60 s each; ``work`` answers some images and says how many."""

    def windows(step: Callable[[], int]) -> tuple[NDArray[np.float64], int, float]:
        watts, images, first = [], 0, clock()
        while clock() - first < SECONDS:
            start, before = clock(), counter.joules()
            while clock() - start < WINDOW:
                images += step()
            watts.append((counter.joules() - before) / (clock() - start))
        return np.array(watts), images, clock() - first

    def rest() -> int:
        sleep(WINDOW)
        return 0

    idle, _, _ = windows(rest)
    load, images, seconds = windows(work)
    return Power(load, idle, images / seconds, images, "RAPL, CPU packages")


def metered(log: bytes, start: float, end: float, images: int) -> Power:
    """From a meter's log: CSV with the columns ``seconds`` (Unix time) and ``watts``; load from ``start`` to ``end``.

    Raises:
        InvalidInput: a log that can't be read, or with less than 60 s of load or of rest before it.
    """
    try:
        rows = [
            (float(row["seconds"]), float(row["watts"])) for row in csv.DictReader(io.StringIO(log.decode("utf-8")))
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("a meter's log is CSV with the columns seconds and watts, in numbers") from error
    times, watts = np.array(rows).reshape(-1, 2).T
    if not np.isfinite(watts).all() or (np.diff(times) <= 0).any():
        raise InvalidInput("a meter's log has rising times and finite watts")
    load = _windows(times, watts, start, end, "load")
    idle = _windows(times, watts, float(times[0]), start, "rest before the load")
    return Power(load, idle, images / (end - start), images, "meter log")


def _windows(
    times: NDArray[np.float64], watts: NDArray[np.float64], start: float, end: float, what: str
) -> NDArray[np.float64]:
    many = int((min(end, times[-1]) - max(start, times[0])) // WINDOW) if len(times) else 0
    if many < SECONDS / WINDOW:
        raise InvalidInput(f"the meter's log has less than {SECONDS:g} s of {what}")
    inside = [watts[(times >= start + n * WINDOW) & (times < start + (n + 1) * WINDOW)] for n in range(many)]
    if any(len(one) == 0 for one in inside):
        raise InvalidInput(f"the meter's log has a gap of {WINDOW:g} s in {what}")
    return np.array([one.mean() for one in inside])
