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


def unseen(images: Numbers, alpha: float) -> Numbers:
    """The largest share of images that can behave otherwise where none of ``images`` did: about ``3 / images``.

    Reference: J. A. Hanley and A. Lippman-Hand (1983), doi:10.1001/jama.1983.03330370053031 (the rule of three).
    """
    return np.asarray(1 - alpha ** (1 / np.maximum(images, 1)))


@dataclass(frozen=True)
class Units:
    """Independent observations of several slices: images, or clusters of them; arrays ``(U,)`` ordered by ``place``.

    ``place`` is the slice that a unit is of, ``mean`` its mean score, ``size`` its images, and ``count`` how many
    units are alike.  ``places`` is the number of slices.
    """

    place: NDArray[np.int64]
    mean: Numbers
    size: Numbers
    count: Numbers
    places: int


def bounded_mean(units: Units, alpha: float, floor: float, ceiling: float) -> Interval:
    """The interval of the mean over images of scores in ``floor..ceiling``, of any distribution.  ``(places,)`` each.

    The upper end is the ``1 - alpha`` quantile of the mean under random exponential weights of the units and of one
    unseen unit at the ceiling.  So what the sample can't show is counted: of ``n`` units that are all alike, one in
    ``3 / n`` may be at the ceiling.  For 0/1 scores it is Clopper and Pearson's end.  A higher score never lowers an
    end.  The unseen unit is of the size of an average image's cluster.  Coverage is a conjecture in general and is
    simulated in ``tests.bench.coverage``; the quantile is computed by a saddlepoint approximation.

    References: N. Gaffke (2005), "Three test statistics for a nonparametric one-sided hypothesis on the mean of a
    nonnegative variable", Mathematical Methods of Statistics 14, 451-467; E. Learned-Miller and P. S. Thomas (2020),
    arXiv:1905.06208; R. Lugannani and S. Rice (1980), doi:10.2307/1426607 (the approximation).
    """
    images = np.bincount(units.place, units.size * units.count, units.places)
    value = np.bincount(units.place, units.size * units.count * units.mean, units.places) / np.maximum(images, 1)
    z = float(stats.norm.isf(alpha))
    high = _upper_end(units, units.mean, ceiling, z)
    low = -_upper_end(units, -units.mean, -floor, z)
    return Interval(value, np.minimum(low, value), np.maximum(high, value))


def _upper_end(units: Units, mean: Numbers, ceiling: float, z: float) -> Numbers:
    """The upper end of every slice's mean, by Newton steps within a bracket."""
    every = np.arange(units.places)
    weight = units.size * units.count
    images = np.maximum(np.bincount(units.place, weight, units.places), 1e-300)
    unseen = np.maximum(np.bincount(units.place, weight * units.size, units.places) / images, 1.0)
    place = np.concatenate((units.place, every))
    order = np.argsort(place, kind="stable")
    place, starts = place[order], np.searchsorted(place[order], every)
    mean = np.concatenate((mean, np.full(units.places, ceiling)))[order]
    size, count = (
        np.concatenate((units.size, unseen))[order],
        np.concatenate((units.count, np.ones(units.places)))[order],
    )
    total = np.add.reduceat(size * count, starts)
    near = np.add.reduceat(size * count * mean, starts) / total
    far, tilt = np.full(units.places, ceiling), np.full(units.places, 0.5)
    spread = np.sqrt(np.add.reduceat(count * (size * (mean - near[place])) ** 2, starts)) / total
    found = np.minimum(near + z * spread, (near + 3 * far) / 4)
    for _ in range(_STEPS):
        signed, slope, tilt = _root_of(size * (mean - found[place]), size, count, place, starts, tilt)
        near, far = np.where(signed < z, found, near), np.where(signed < z, far, found)
        step = found + (z - signed) / slope
        step = np.where((step >= near) & (step <= far), step, (near + far) / 2)
        moved, found = np.max(np.abs(step - found)), step
        if moved < 1e-10:
            break
    return np.asarray(found)


def _root_of(
    off: Numbers, size: Numbers, count: Numbers, place: NDArray[np.int64], starts: NDArray[np.int64], tilt: Numbers
) -> tuple[Numbers, Numbers, Numbers]:
    """The normal quantile of the probability that the weighted sum of ``off`` is negative, and its slope.

    ``tilt`` is where the search for the saddlepoint begins, as a share of its largest value; also returned.
    """
    most = np.maximum(np.maximum.reduceat(off, starts), 1e-300)
    share = off / most[place]
    near, far = np.zeros_like(tilt), np.ones_like(tilt)
    for _ in range(_STEPS):
        part = share / (1 - tilt[place] * share)
        pull, bend = np.add.reduceat(count * part, starts), np.add.reduceat(count * part * part, starts)
        near, far = np.where(pull < 0, tilt, near), np.where(pull < 0, far, tilt)
        slope = (1 - tilt) * bend - pull
        step = tilt - (1 - tilt) * pull / np.where(slope > 0, slope, np.inf)
        step = np.where((step >= near) & (step <= far) & (slope > 0), step, (near + far) / 2)
        moved, tilt = np.max(np.abs(step - tilt)), step
        if moved < 1e-11:
            break
    left = 1 - tilt[place] * share
    exponent = np.add.reduceat(count * np.log(left), starts)
    root = np.sqrt(np.maximum(2 * exponent, 1e-20))
    spread = tilt * np.sqrt(np.add.reduceat(count * (share / left) ** 2, starts))
    slope = tilt / most * np.add.reduceat(count * size / left, starts) / root
    return root + np.log(np.maximum(spread, 1e-300) / root) / root, np.maximum(slope, 1e-300), tilt


def student_p(units: Units) -> Numbers:
    """The one-sided p-value ``(places,)`` of a mean this far above zero; 1 where nothing is known of the spread."""
    images, number = (np.bincount(units.place, one * units.count, units.places) for one in (units.size, np.ones(1)))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(units.place, units.size * units.count * units.mean, units.places) / images
        off = units.count * (units.size * (units.mean - mean[units.place])) ** 2
        variance = np.bincount(units.place, off, units.places) * number / (number - 1)
        p = stats.t.sf(mean * images / np.sqrt(variance), number - 1)
    return np.asarray(np.where(np.isfinite(p) & (variance > 1e-18 * images), p, 1.0))


def mcnemar(lost: Any, won: Any) -> Numbers:
    """The exact one-sided p-value of ``lost`` losses, if losing and winning an image are equally likely.

    Reference: Q. McNemar (1947), doi:10.1007/BF02295996, in its exact binomial form.
    """
    b, c = np.asarray(lost, float), np.asarray(won, float)
    return np.asarray(stats.binom.sf(b - 1, b + c, 0.5), float)


FEW = 20
"""Of fewer images that differ, a resample says too little about those that were not drawn."""


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
