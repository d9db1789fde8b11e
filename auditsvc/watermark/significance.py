"""The exact significance test of a key, and the residuals of a suspect's layers that it is computed from.

Only the *key* is random.  Let ``v`` be any function of the suspect and the original that does not use the key:
aligned, rescaled, clipped, weighted.  If the suspect is unrelated to the key, the signs ``xi`` are fair coins, and
``z = sum(v * xi) / ||v||`` has a tail of at most 3.178 times the normal one, for every ``v`` and every number of
weights.  So ``p`` needs no calibration on other models.

Reference: V. K. Bentkus and D. Dzindzalieta (2015), "A tight Gaussian bound for weighted sums of Rademacher
random variables", Bernoulli 21(2), doi:10.3150/14-BEJ603.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    """The base-10 logarithm of the p-value of ``z``, after this many tries (Bonferroni); at most 0."""
    return min(0.0, float(norm.logsf(z)) / math.log(10) + math.log10(BOUND) + math.log10(tries))


def weighted_median(values: Floats, weights: Floats) -> float:
    """The weighted median."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


def normalize_residuals(residuals: list[NDArray[np.float32]], filters: list[NDArray[np.int64]]) -> list[Floats]:
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


FIT_STEPS = 8
"""Alternating least-squares steps for the scales of output and input channels."""


@dataclass(frozen=True)
class Residual:
    """What one layer of the suspect has that the original hasn't, in units of the filter's own size.

    All arrays are flat, over the weights that are alive in both; ``places`` are their positions in the layer.
    """

    layer: str
    size: int
    places: NDArray[np.int64]
    filters: NDArray[np.int64]
    values: NDArray[np.float32]
    blind: NDArray[np.float32]
    likeness: Floats
    """For each filter, its absolute cosine with the original."""


def residual(name: str, suspect: NDArray[np.float32], original: NDArray[np.float32]) -> Residual:
    """The residual of one layer after the best scale for each output and input channel, signs included."""
    filters, channels = original.shape[0], original.shape[1]
    ours = original.reshape(filters, channels, -1).astype(np.float64)
    theirs = suspect.reshape(filters, channels, -1).astype(np.float64)
    alive = (ours != 0) & (theirs != 0)
    ours, theirs = ours * alive, theirs * alive
    rows, columns = fit_scales(theirs, ours)
    scale = rows[:, None, None] * columns[None, :, None]
    full = original.reshape(filters, -1).astype(np.float64)
    sizes = np.sqrt((full**2).sum(1) / np.maximum((full != 0).sum(1), 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        values = (theirs / scale - ours) / sizes[:, None, None]
        theirs_size = np.sqrt((theirs**2).sum((1, 2)) / np.maximum(alive.sum((1, 2)), 1))
        blind = np.clip(theirs / theirs_size[:, None, None], -HARD_CLIP, HARD_CLIP)
        fitted = ours * scale
        cosine = np.abs((theirs * fitted).sum((1, 2))) / np.sqrt((theirs**2).sum((1, 2)) * (fitted**2).sum((1, 2)))
    usable = alive & np.isfinite(values)
    places = np.flatnonzero(usable)
    return Residual(
        layer=name,
        size=original.size,
        places=places,
        filters=places // max(ours[0].size, 1),
        values=values.reshape(-1)[places].astype(np.float32),
        blind=blind.reshape(-1)[places].astype(np.float32),
        likeness=np.nan_to_num(cosine[alive.any((1, 2))]),
    )


def fit_scales(suspect: Floats, original: Floats) -> tuple[Floats, Floats]:
    """Scales ``a`` of filters and ``b`` of channels for which ``suspect`` is nearest to ``a * b * original``.

    Both are ``(filters, channels, weights)``.  Scales can be negative: a flipped sign is undone too.
    """
    products, squares = (suspect * original).sum(2), (original**2).sum(2)
    columns = np.ones(original.shape[1])
    rows = np.ones(original.shape[0])
    for step in range(FIT_STEPS):
        rows = _ratio(products @ columns, squares @ columns**2)
        if step + 1 < FIT_STEPS:
            columns = _ratio(rows @ products, rows**2 @ squares)
    return rows, columns


def _ratio(above: Floats, below: Floats) -> Floats:
    return np.divide(above, below, out=np.ones_like(above), where=below > 0)
