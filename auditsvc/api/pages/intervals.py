"""Intervals as pictures: numbers in, positions on a drawing of fixed width out; the template draws them as SVG."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from auditsvc.records import Measured

WIDTH = 240
"""The drawing's width, in its own units."""


ENOUGH = 30
"""Images from which on an interval has a say in how far the axis goes."""


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
    """A value and the ends of its interval; ``cut`` where an end lies outside the drawing."""

    low: float
    value: float
    high: float
    cut: bool


def axis_for(found: Iterable[Measured]) -> Axis:
    """An axis that holds zero and every interval of enough images, with a little room; never empty.

    A handful of images has an interval so wide that beside it nothing else could be seen.
    """
    measured = list(found)
    known = [item for item in measured if item.images >= ENOUGH] or measured
    low = min([0.0, *(item.low for item in known)])
    high = max([0.01, *(item.high for item in known)])
    room = (high - low) * 0.04
    return Axis(low - room, high + room)


def dot_on(axis: Axis, found: Measured) -> Dot:
    """One reading on an axis."""
    ends = [axis.at(value) for value in (found.low, found.value, found.high)]
    low, value, high = (min(max(end, 0.0), float(WIDTH)) for end in ends)
    return Dot(low, value, high, cut=[low, value, high] != ends)
