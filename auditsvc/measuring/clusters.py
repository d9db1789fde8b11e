"""Images that come in clusters (of one video, patient or writer) tell less than as many that don't.

How much less is the design effect: the variance of a mean with the clusters in mind over the variance without.
Counts are divided by it and then get the intervals of independent images, so that these keep what they are good
at: few images, rare changes.  Where nothing varies, a cluster counts as one image, which is the most pessimistic
that can be.  Few clusters tell little about their own variance, so the effect grows as Student's quantile does.

Reference: J. N. K. Rao and A. J. Scott (1992), "A Simple Method for the Analysis of Clustered Binary Data",
doi:10.2307/2532311.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditsvc.measuring.dataset import Slices

Numbers = NDArray[np.float64]


def design_effects(values: Numbers, slices: Slices, chosen: NDArray[np.int64] | None, alpha: float) -> Numbers:
    """For each slice how many of its images tell as much as one that comes alone: at least 1, and 1 if all do."""
    if slices.clusters is None:
        return np.ones(len(slices.names))
    clusters = slices.clusters if chosen is None else slices.clusters[chosen]
    found = [_effects(values, np.zeros(len(values), np.int64), 1, clusters, alpha)]
    for column in slices.columns:
        codes = column.codes if chosen is None else column.codes[chosen]
        inside = codes >= 0
        found.append(_effects(values[inside], codes[inside], len(column.labels), clusters[inside], alpha))
    return np.concatenate(found)


def _effects(
    values: Numbers, codes: NDArray[np.integer], labels: int, clusters: NDArray[np.int64], alpha: float
) -> Numbers:
    """The design effect of each group of one partition."""
    images = np.bincount(codes, minlength=labels)
    means = np.bincount(codes, weights=values, minlength=labels) / np.maximum(images, 1)
    residuals = values - means[codes]
    pairs, inverse = np.unique(clusters * labels + codes, return_inverse=True)
    totals = np.bincount(inverse, weights=residuals, minlength=len(pairs))
    group = (pairs % labels).astype(np.int64)
    count = np.bincount(group, minlength=labels)
    between = np.bincount(group, weights=totals**2, minlength=labels) * count / np.maximum(count - 1, 1)
    within = np.bincount(codes, weights=residuals**2, minlength=labels)
    alike = images / np.maximum(count, 1)
    effect = np.where(within > 1e-12, between / np.maximum(within, 1e-12), alike)
    effect = np.where(count < 2, np.maximum(images, 1), np.maximum(effect, 1.0))
    wider = stats.t.isf(alpha, np.maximum(count - 1, 1)) / stats.norm.isf(alpha)
    return np.asarray(effect * wider**2)
