"""Sums over slices and their resamples, and the interval of whatever is a function of them.

Resampling is by image, or by cluster, with Poisson weights, a block of images at a time, so that a million images
stream.  A bootstrap knows nothing of what it never saw, so where fewer than ``FEW`` images differ, the ends are moved
out by what a share of unseen ones could still change.

References: B. Efron (1987), doi:10.1080/01621459.1987.10478410; N. Chamandy et al. (2012), "Estimating Uncertainty for
Massive Data Streams" (the Poisson bootstrap).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditsvc.measuring.dataset import Slices
from auditsvc.measuring.resampling import corrected, groups_of
from auditsvc.measuring.statistics import FEW, Interval, wilson

Numbers = NDArray[np.float64]

Formula = Callable[[Numbers], Numbers]
"""``(B, K)`` sums of what was counted to ``(B,)`` values, or ``(B, C)`` for the classes; NaN where there is nothing."""

BLOCK = 4096
"""Images that are resampled at once."""


def share(part: Numbers, whole: Numbers) -> Numbers:
    """Part over whole; NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0))


@dataclass(frozen=True)
class Sums:
    """For each slice ``(R, K)`` sums of one model: of all images, of ``draws`` resamples, of what is left of groups."""

    slices: tuple[Numbers, ...]
    draws: int


def summed(counts: Numbers, slices: Slices, draws: int, rng: np.random.Generator) -> tuple[Numbers, ...]:
    """For each slice ``(R, K)``: the sums of ``counts`` (N, K) over all images, ``draws`` resamples, and each of up to
    50 groups left out."""
    groups, clusters = groups_of(slices.images, slices.clusters)
    drawn = None if clusters is None else rng.poisson(1.0, (draws, int(clusters.max()) + 1)).astype(np.uint8)
    rows = 1 + draws + int(groups.max()) + 1
    totals = [np.zeros((rows, counts.shape[1])) for _ in slices.names]
    for start in range(0, len(counts), BLOCK):
        place = slice(start, min(start + BLOCK, len(counts)))
        size = place.stop - start
        weights = np.ones((rows, size))
        weights[1 : 1 + draws] = rng.poisson(1.0, (draws, size)) if drawn is None or clusters is None else (
            drawn[:, clusters[place]]
        )  # fmt: skip
        weights[1 + draws :] = groups[place] != np.arange(int(groups.max()) + 1)[:, None]
        totals[0] += weights @ counts[place]
        at = 1
        for column in slices.columns:
            codes = column.codes[place]
            for label in range(len(column.labels)):
                inside = np.flatnonzero(codes == label)
                if len(inside):
                    totals[at] += weights[:, inside] @ counts[start + inside]
                at += 1
    return tuple(totals)


def formula_of(formula: Formula, sums: Sums) -> list[Numbers]:
    """For each slice ``(R,)`` values."""
    return [formula(one) for one in sums.slices]


def interval_of(values: Numbers, draws: int, alpha: float, units: float) -> Interval:
    """The interval of one measure: its value, the resampled ones, and those with a group left out, in one row.

    Resamples in which there is nothing to measure are left out.  ``units`` is how many images, or clusters, it is from:
    of few of them the bootstrap sees too little spread, so its quantiles are Student's.

    Reference: T. C. Hesterberg (2015), doi:10.1080/00031305.2015.1089789, section 5 (expanded percentiles).
    """
    drawn, left = values[1 : 1 + draws], values[1 + draws :]
    freedom = max(units - 1, 1.0)
    wider = float(stats.norm.sf(stats.t.isf(alpha, freedom) * np.sqrt((freedom + 1) / freedom)))
    return corrected(float(values[0]), drawn[np.isfinite(drawn)], left[np.isfinite(left)], wider)


def moved_out(
    found: Interval, differing: float, images: int, alpha: float, floor: float, largest: float = 1.0
) -> Interval:
    """The ends moved out by what unseen images could change, where fewer than ``FEW`` differ; cut to the scale.

    ``largest`` is how much one of them could, as a share of all that it has.
    """
    low, high, value = float(found.low), float(found.high), float(found.value)
    if differing < FEW:
        reach = largest * (float(wilson(differing, images, alpha).high) - differing / images)
        low, high = min(low, value - reach), max(high, value + reach)
    return bounded(value, max(low, floor), min(high, 1.0))


def bounded(value: float, low: float, high: float) -> Interval:
    """An interval that holds its value."""
    return Interval(np.array(value), np.array(min(low, value)), np.array(max(high, value)))
