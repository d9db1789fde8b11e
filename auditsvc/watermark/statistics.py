"""The exact test: how unlikely is it that a key has nothing to do with a model?

The *key* is what is random.  Let ``v`` be anything computed from the suspect and the original without
looking at the key: aligned, rescaled, clipped, weighted.  If the suspect has nothing to do with the
key, the signs ``xi`` are fair coins, and ``z = sum(v * xi) / ||v||`` has a tail that is never above 3.178
times the normal one, for every ``v`` and every number of weights.  Nothing is calibrated on other
models, so ``p`` needs no faith in how those were chosen.

Reference: V. K. Bentkus and D. Dzindzalieta (2015), "A tight Gaussian bound for weighted sums of Rademacher
random variables", Bernoulli 21(2), doi:10.3150/14-BEJ603.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

BOUND = float(1 / (4 * norm.sf(math.sqrt(2))))
"""3.178...: the smallest constant for which the bound holds."""

HARD_CLIP = 4.0
"""No weight counts for more than four times the usual size."""

FLOOR_COORDINATES = 8
"""Filters with fewer weights get the network's median size instead of their own."""

Floats = NDArray[np.float64]


def log10_p(z: float, tries: float = 1.0) -> float:
    """The base-10 logarithm of the p-value of ``z``, after so many tries (Bonferroni); at most 0."""
    return min(0.0, float(norm.logsf(z)) / math.log(10) + math.log10(BOUND) + math.log10(tries))


def score(values: Floats, signs: Floats) -> float:
    """``z``: the correlation of values with signs in standard deviations; 0 where nothing is left to correlate."""
    length = float(np.linalg.norm(values))
    return float(values @ signs) / length if length > 0 else 0.0


def weighted_median(values: Floats, weights: Floats) -> float:
    """The value below which half of the weight lies."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def evened(residuals: list[NDArray[np.float32]], filters: list[NDArray[np.int64]]) -> list[Floats]:
    """Residuals divided by the size of their own filter and of the network's median, and clipped.

    A filter in which the suspect was changed much says little and is turned down.  The median is added
    to each filter's size: without it, filters of one or two weights, whose residual the scale fit
    swallows whole, would drown all the others.
    """
    if not residuals:
        return []
    sizes, counts = [], []
    for residual, filter_of in zip(residuals, filters, strict=True):
        count = np.bincount(filter_of).astype(np.float64)
        squares = np.bincount(filter_of, residual.astype(np.float64) ** 2)
        sizes.append(np.sqrt(squares / np.maximum(count, 1)))
        counts.append(count)
    enough = np.concatenate(counts) >= FLOOR_COORDINATES
    pool = enough if enough.any() else np.concatenate(counts) > 0
    if not pool.any():
        return [residual.astype(np.float64) for residual in residuals]
    median = weighted_median(np.concatenate(sizes)[pool], np.concatenate(counts)[pool])
    result = []
    for residual, filter_of, size, count in zip(residuals, filters, sizes, counts, strict=True):
        own = np.where(count >= FLOOR_COORDINATES, size, median)
        spread = np.sqrt(own**2 + median**2)[filter_of]
        with np.errstate(divide="ignore", invalid="ignore"):
            even = np.where(spread > 0, np.clip(residual / spread, -HARD_CLIP, HARD_CLIP) / spread, 0.0)
        result.append(even)
    return result
