"""Confidence intervals for small samples and rare events, and bootstrap weights.

Every interval consists of two one-sided bounds, each at level ``alpha``: the probability that the truth is below
``low`` is at most ``alpha``, and the same above ``high``.  So a rule that reads one end errs with probability at most
``alpha``.  All functions take arrays with one entry for each slice and work on counts, so that a thousand slices cost
about what one costs.

A bootstrap resample is a vector of weights, drawn by image, or by cluster where images are clustered; a statistic
that is a function of weighted sums then costs one matrix product for all resamples.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Numbers = NDArray[np.float64]

_STEPS = 60
"""Halvings of [-1, 1]: the bound is exact to 2e-18, below what a float can hold."""


@dataclass(frozen=True)
class Interval:
    """A value and its one-sided bounds, elementwise; arrays of one shape."""

    value: Numbers
    low: Numbers
    high: Numbers


def wilson(successes: Any, images: Any, alpha: float) -> Interval:
    """The Wilson score interval of a proportion: ``successes`` out of ``images``.

    Unlike Wald's it stays inside 0..1 and does not collapse to a point when all or none succeed.

    Reference: E. B. Wilson (1927), doi:10.1080/01621459.1927.10502953.
    """
    count, total = np.asarray(successes, float), np.asarray(images, float)
    z = stats.norm.isf(alpha)
    share = count / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * np.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low = np.where(count == 0, 0.0, np.minimum(centre - half, share))
    high = np.where(count == total, 1.0, np.maximum(centre + half, share))
    return Interval(share, low, high)


def tango(lost: Any, won: Any, images: Any, alpha: float) -> Interval:
    """Tango's score interval of a paired difference of proportions, ``(lost - won) / images``.

    ``lost`` images were right in the parent and wrong in the candidate, ``won`` the other way round.  Wald's
    interval errs up to three times too often where few images change; this one does not.

    Reference: T. Tango (1998), doi:10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B.
    """
    b, c, n = (np.asarray(count, float) for count in np.broadcast_arrays(lost, won, images))
    z = stats.norm.isf(alpha)
    value = (b - c) / n

    def score(delta: Numbers) -> Numbers:
        """The score statistic for a true difference ``delta``; falls as ``delta`` grows."""
        linear = -b - c + (2 * n - b + c) * delta
        constant = -c * delta * (1 - delta)
        root = np.sqrt(np.maximum(linear * linear - 8 * n * constant, 0))
        rarer = (root - linear) / (4 * n)
        variance = np.maximum(n * (2 * rarer + delta * (1 - delta)), 1e-300)
        return np.asarray((b - c - n * delta) / np.sqrt(variance))

    def bound(target: float, inner: Numbers, outer: float) -> Numbers:
        """The difference whose score is ``target``, between the estimate and the end of the scale."""
        near, far = inner.copy(), np.full_like(inner, outer)
        for _ in range(_STEPS):
            middle = (near + far) / 2
            outside = np.abs(score(middle)) > abs(target)
            far = np.where(outside, middle, far)
            near = np.where(outside, near, middle)
        return (near + far) / 2

    low, high = bound(z, value, -1.0), bound(-z, value, 1.0)
    return Interval(value, np.minimum(low, value), np.maximum(high, value))


def student(total: Any, squares: Any, images: Any, alpha: float, floor: float, ceiling: float) -> Interval:
    """Student's interval of a mean of graded scores, from their sum and sum of squares, cut to the scale.

    A slice with fewer than two images, or with no spread at all, says nothing about its own spread, so its
    interval is the whole scale.
    """
    s, q, n = (np.asarray(count, float) for count in np.broadcast_arrays(total, squares, images))
    value = np.clip(s / n, floor, ceiling)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(q - s * s / n, 0) / np.maximum(n - 1, 0)
        half = stats.t.isf(alpha, n - 1) * np.sqrt(variance / n)
    blind = ~np.isfinite(half) | (variance <= 0)
    low = np.where(blind, floor, np.maximum(value - half, floor))
    high = np.where(blind, ceiling, np.minimum(value + half, ceiling))
    return Interval(value, low, high)


def hall_interval(total: Any, squares: Any, cubes: Any, images: Any, alpha: float) -> Interval:
    """The interval of a mean of skewed scores, from their first three sums: Hall's transformation of Student's.

    It is as exact as the studentised bootstrap (both leave an error of order 1/n, Student's interval one of 1/sqrt(n)),
    and costs three sums and no resample, so a million images stream.

    Reference: P. Hall (1992), "On the Removal of Skewness by Transformation",
    doi:10.1111/j.2517-6161.1992.tb01875.x.
    """
    s, q, c, n = (np.asarray(count, float) for count in np.broadcast_arrays(total, squares, cubes, images))
    root, mean = np.sqrt(n), s / n
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.maximum(q / n - mean * mean, 0) * n / (n - 1))
        skew = (c / n - 3 * mean * q / n + 2 * mean**3) / spread**3
        skew = np.where(np.abs(skew) < 1e-6, 1e-6, skew)
        z = stats.t.isf(alpha, n - 1)
        low, high = (
            mean - spread / root * 3 * root / skew * (np.cbrt(1 + skew / root * (x - skew / (6 * root))) - 1)
            for x in (z, -z)
        )
    return Interval(mean, low, high)


FEW = 20
"""With fewer images than this that differ from the others, sums say too little about the spread of graded scores."""


def graded(sums: tuple[Any, Any, Any], images: Any, differing: Any, bounded: Interval, alpha: float) -> Interval:
    """The interval of a mean of graded scores, from their first three ``sums``, where at least ``FEW`` of them differ.

    The wider of Student's ends and Hall's: the first errs where most images change by nothing and a few by much, the
    second where gains and losses balance.  With fewer that differ it is ``bounded``, the score interval of 0/1 images
    with the same mass: scores in 0..1 never vary more than 0/1 scores of their mean, so that errs on the safe side, and
    a slice of which nothing differs gets the interval of one of which nothing changed.

    ``differing`` counts, for a loss, the images whose score changed; for a level, those that are not at one end of the
    scale, or those not at the other, whichever are fewer.
    """
    total, squares, cubes = sums
    plain = student(total, squares, images, alpha, -1.0, 1.0)
    hall = hall_interval(total, squares, cubes, images, alpha)
    enough = (np.asarray(differing, float) >= FEW) & np.isfinite(hall.low) & np.isfinite(hall.high)
    low = np.where(enough, np.fmin(plain.low, hall.low), bounded.low)
    high = np.where(enough, np.fmax(plain.high, hall.high), bounded.high)
    value = np.asarray(total, float) / np.asarray(images, float)
    return Interval(value, np.minimum(low, value), np.maximum(high, value))


def student_p(total: Any, squares: Any, images: Any) -> Numbers:
    """The one-sided p-value of a mean this far above zero; 1 where a slice says nothing about its own spread."""
    s, q, n = (np.asarray(count, float) for count in np.broadcast_arrays(total, squares, images))
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.maximum(q - s * s / n, 0) / (n - 1)
        p = stats.t.sf(s / n / np.sqrt(variance / n), n - 1)
    return np.where(np.isfinite(p) & (variance > 0), p, 1.0)


def mcnemar(lost: Any, won: Any) -> Numbers:
    """The exact one-sided p-value of ``lost`` losses, if losing and winning an image are equally likely.

    Reference: Q. McNemar (1947), doi:10.1007/BF02295996, in its exact binomial form.
    """
    b, c = np.asarray(lost, float), np.asarray(won, float)
    return np.asarray(stats.binom.sf(b - 1, b + c, 0.5), float)


def images_needed(discordant: float, images: int, margin: float, alpha: float, power: float = 0.8) -> int:
    """How many images would show, with this power, that a loss stays under ``margin``.

    Taken from the share of images that changed so far (one at least is assumed to change), for a true
    difference of zero.

    Reference: J.-P. Liu et al. (2002), doi:10.1002/sim.1012.
    """
    share = max(discordant, 1.0) / max(images, 1)
    z = stats.norm.isf(alpha) + stats.norm.isf(1 - power)
    return int(np.ceil(z * z * share / (margin * margin)))


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
