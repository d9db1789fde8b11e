"""From per-image scores of parent and candidate to readings for every slice.

0/1 scores get Wilson's and Tango's intervals; graded ones Student's, on the per-image differences.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditsvc.measuring.dataset import Slices
from auditsvc.measuring.statistics import Interval, student, tango, wilson
from auditsvc.records import Measured, Reading, Unmeasured


def paired_readings(
    name: str,
    parent: NDArray[Any],
    candidate: NDArray[Any],
    slices: Slices,
    chosen: NDArray[np.int64] | None,
    alpha: float,
) -> Iterator[Reading]:
    """``score.NAME``, ``parent.NAME`` and ``drop.NAME`` (parent minus candidate) on every slice.

    ``parent`` and ``candidate`` are ``(N,)`` scores in 0..1 of the same images; ``chosen`` are those images'
    numbers where not all of the data set was run.
    """
    before, after = parent.astype(np.float64), candidate.astype(np.float64)
    images = slices.sums(np.ones_like(before), chosen)
    populated = np.maximum(images, 1)
    binary = bool(np.isin(before, (0, 1)).all() and np.isin(after, (0, 1)).all())

    def sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return slices.sums(values, chosen)

    def level(values: NDArray[np.float64]) -> Interval:
        if binary:
            return wilson(sums(values), populated, alpha)
        return student(sums(values), sums(values * values), populated, alpha, 0.0, 1.0)

    def loss() -> Interval:
        change = before - after
        if binary:
            return tango(sums((change > 0).astype(float)), sums((change < 0).astype(float)), populated, alpha)
        return student(sums(change), sums(change * change), populated, alpha, -1.0, 1.0)

    for kind, interval in (("score", level(after)), ("parent", level(before)), ("drop", loss())):
        for place, slice_name in enumerate(slices.names):
            yield Reading(
                metric=f"{kind}.{name}", slice=slice_name, outcome=_outcome(interval, place, int(images[place]))
            )


def _outcome(interval: Interval, place: int, images: int) -> Measured | Unmeasured:
    if images == 0:
        return Unmeasured(reason="no image of this slice was tried", images=0)
    return Measured(
        value=float(interval.value[place]),
        low=float(interval.low[place]),
        high=float(interval.high[place]),
        images=images,
    )
