"""Bootstrap weights for what is no mean of images: drawn by image, or by cluster where images come in clusters.

A resample is a vector of weights, so a statistic that is a function of weighted sums costs one matrix product for
all of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditsvc.measuring.statistics import Interval

Numbers = NDArray[np.float64]

Statistic = Callable[[Numbers], Numbers]
"""``(B, N)`` weights of images to ``(B,)`` values; for weights of one the estimate."""


def bootstrap_weights(images: int, clusters: NDArray[np.int64] | None, draws: int, rng: np.random.Generator) -> Numbers:
    """``(draws, images)``: how often each image is drawn, if images, or whole clusters, are drawn anew."""
    if clusters is None:
        return rng.multinomial(images, np.full(images, 1 / images), size=draws).astype(np.float64)
    _, inverse = np.unique(clusters, return_inverse=True)
    number = int(inverse.max()) + 1
    drawn = rng.multinomial(number, np.full(number, 1 / number), size=draws)
    return drawn[:, inverse].astype(np.float64)


def bca(statistic: Statistic, weights: Numbers, clusters: NDArray[np.int64] | None, alpha: float) -> Interval:
    """The bias-corrected and accelerated bootstrap interval; acceleration from leaving one in up to 50 groups out.

    Reference: B. Efron (1987), "Better Bootstrap Confidence Intervals", doi:10.1080/01621459.1987.10478410.
    """
    images = weights.shape[1]
    value = float(statistic(np.ones((1, images)))[0])
    return corrected(value, statistic(weights), statistic(_leaving_out(images, clusters)), alpha)


def corrected(value: float, drawn: Numbers, left: Numbers, alpha: float) -> Interval:
    """The same from an estimate, its resamples ``(B,)`` and what it is with each group left out ``(G,)``."""
    drawn = np.sort(drawn)
    below = (np.sum(drawn < value) + np.sum(drawn <= value)) / 2 / len(drawn)
    bias = stats.norm.ppf(np.clip(below, 1 / (2 * len(drawn)), 1 - 1 / (2 * len(drawn))))
    centred = left.mean() - left
    spread = np.sum(centred**2) ** 1.5
    skew = np.sum(centred**3) / (6 * spread) if spread > 0 else 0.0
    low, high = (
        _quantile(drawn, stats.norm.cdf(bias + (bias + z) / (1 - skew * (bias + z))))
        for z in (stats.norm.ppf(alpha), stats.norm.isf(alpha))
    )
    return Interval(np.array(value), np.minimum(low, value), np.maximum(high, value))


def groups_of(images: int, clusters: NDArray[np.int64] | None) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """``(N,)``: which of up to 50 groups each image is of, clusters kept whole; and the clusters numbered from 0."""
    numbered = None if clusters is None else np.unique(clusters, return_inverse=True)[1]
    units = np.arange(images) if numbered is None else numbered
    return units % min(50, int(units.max()) + 1), numbered


def _leaving_out(images: int, clusters: NDArray[np.int64] | None) -> Numbers:
    """``(G, images)``: weights that leave one of up to 50 groups of images (or of clusters) out."""
    groups, _ = groups_of(images, clusters)
    kept: Numbers = (groups[None] != np.arange(int(groups.max()) + 1)[:, None]).astype(np.float64)
    return kept


def _quantile(drawn: Numbers, share: float) -> Numbers:
    return np.asarray(np.quantile(drawn, np.clip(share, 0, 1)))
