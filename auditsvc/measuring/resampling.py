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
    drawn = np.sort(statistic(weights))
    below = (np.sum(drawn < value) + np.sum(drawn <= value)) / 2 / len(drawn)
    bias = stats.norm.ppf(np.clip(below, 1 / (2 * len(drawn)), 1 - 1 / (2 * len(drawn))))
    left = statistic(_leaving_out(images, clusters))
    centred = left.mean() - left
    spread = np.sum(centred**2) ** 1.5
    skew = np.sum(centred**3) / (6 * spread) if spread > 0 else 0.0
    low, high = (
        _quantile(drawn, stats.norm.cdf(bias + (bias + z) / (1 - skew * (bias + z))))
        for z in (stats.norm.ppf(alpha), stats.norm.isf(alpha))
    )
    return Interval(np.array(value), np.minimum(low, value), np.maximum(high, value))


def _leaving_out(images: int, clusters: NDArray[np.int64] | None) -> Numbers:
    """``(G, images)``: weights that leave one of up to 50 groups of images (or of clusters) out."""
    groups = np.arange(images) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    number = min(50, int(groups.max()) + 1)
    kept: Numbers = (groups[None] % number != np.arange(number)[:, None]).astype(np.float64)
    return kept


def _quantile(drawn: Numbers, share: float) -> Numbers:
    return np.asarray(np.quantile(drawn, np.clip(share, 0, 1)))
