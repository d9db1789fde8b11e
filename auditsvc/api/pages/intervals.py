"""Intervals as pictures: numbers in, positions on a drawing of fixed width out; the template draws them as SVG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from auditsvc.records import Measured

WIDTH = 240
"""The drawing's width, in its own units."""


@dataclass(frozen=True)
class Axis:
    """What the drawing's edges stand for; zero is always on it."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value lies, from 0 to ``WIDTH``."""
        return round((value - self.low) / (self.high - self.low) * WIDTH, 1)

    @property
    def zero(self) -> float:
        """Where nothing is lost."""
        return self.at(0.0)


@dataclass(frozen=True)
class Dot:
    """A value and the ends of its interval."""

    low: float
    value: float
    high: float


def axis_for(found: Iterable[Measured]) -> Axis:
    """An axis that holds zero and every interval, with a little room; never empty."""
    known = list(found)
    low = min([0.0, *(item.low for item in known)])
    high = max([0.01, *(item.high for item in known)])
    room = (high - low) * 0.04
    return Axis(low - room, high + room)


def dot_on(axis: Axis, found: Measured) -> Dot:
    """One reading on an axis."""
    return Dot(axis.at(found.low), axis.at(found.value), axis.at(found.high))
