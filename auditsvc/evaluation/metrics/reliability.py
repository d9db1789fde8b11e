"""Calibration error and selective risk of a classifier's confidences, with bootstrap intervals.

The calibration error is debiased.  The selective risk is the error rate among the most confident answers; the area
under the risk-coverage curve is its mean over every coverage, and smaller is better: a model whose confidence ranks its
answers well makes few errors among the most confident ones.

References: A. Kumar, P. Liang and T. Ma (2019), "Verified Uncertainty Calibration", arXiv:1909.10155;
Y. Geifman and R. El-Yaniv (2017), "Selective Classification for Deep Neural Networks", arXiv:1705.08500;
Y. Geifman, G. Uziel and R. El-Yaniv (2019), "Bias-Reduced Uncertainty Estimation", arXiv:1805.08206 (the area);
B. Efron and R. J. Tibshirani (1993), "An Introduction to the Bootstrap", chapter 10 (bias).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets.dataset import SliceColumn, Slices
from auditsvc.evaluation.intervals import Interval, Statistic
from auditsvc.evaluation.paired import Sample, levels, measured
from auditsvc.records import Measured

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Binned:
    """Images in bins of about equal size by confidence: ``members`` (N, bins) of 0/1, ``told`` and ``right`` (N,)."""

    members: Numbers
    told: Numbers
    right: Numbers
    effect: float = 1.0
    """The design effect of the distances, where images are clustered: what chance alone gives grows with it."""

    @classmethod
    def of(cls, told: Numbers, right: Numbers, bins: int, clusters: NDArray[np.int64] | None = None) -> Binned:
        """Bins by the quantiles of the confidences; equal confidences share a bin."""
        edges = np.unique(np.quantile(told, np.arange(1, bins) / bins))
        places = np.searchsorted(edges, told, side="right")
        effect = (
            Sample(right - told, Slices(len(told), (), clusters), None).design_effects()[0]
            if clusters is not None
            else 1
        )
        return cls((places[:, None] == np.arange(len(edges) + 1)).astype(np.float64), told, right, float(effect))

    def squared_error(self, weights: Numbers) -> Numbers:
        """``(B,)``: the mean squared distance of accuracy from confidence, less its expectation by chance.

        Can be negative: an estimate of zero without bias must be.
        """
        count = weights @ self.members
        there = np.maximum(count, 1e-12)
        accuracy = weights @ (self.members * self.right[:, None]) / there
        distance = weights @ (self.members * (self.right - self.told)[:, None]) / there
        chance = np.where(count > 1, self.effect * accuracy * (1 - accuracy) / np.maximum(count - 1, 1), 0.0)
        return np.asarray(((distance**2 - chance) * count).sum(axis=1) / count.sum(axis=1))

    def reliability(self, clusters: NDArray[np.int64] | None, alpha: float) -> list[tuple[float, Measured]]:
        """Mean confidence and accuracy of each bin that has an image: the reliability curve."""
        column = SliceColumn(
            "bin", tuple(map(str, range(self.members.shape[1]))), self.members.argmax(axis=1).astype("i4")
        )
        sample = Sample(self.right.astype(np.int8), Slices(len(self.told), (column,), clusters), None)
        mean = sample.sums(self.told) / np.maximum(sample.images, 1)
        found = zip(mean[1:], measured(levels(sample, alpha), sample)[1:], strict=True)
        return [(float(said), outcome) for said, outcome in found if isinstance(outcome, Measured)]


def _root(squared: Numbers) -> Numbers:
    return np.sqrt(np.maximum(squared, 0))


def error_interval(weights: Numbers, alpha: float, model: Binned) -> Interval:
    """The calibration error of one model: the root of its squared error and of that one's ends."""
    value, drawn = _squared(weights, model)
    low, high = (float(end) for end in np.quantile(drawn, (alpha, 1 - alpha)))
    return Interval(*(_root(np.array(end)) for end in (value, min(low, value), max(high, value))))


def change_interval(weights: Numbers, alpha: float, model: Binned, other: Binned) -> Interval:
    """How much larger one model's calibration error is than another's, on the same resamples.

    The root of an estimate that is cut at 0 is biased, so the *squared* errors, which are not, are subtracted and
    bounded; the ends become a difference of roots at the end of the other model's error that is the worst for them.
    """
    value, drawn = _squared(weights, model)
    base, base_drawn = _squared(weights, other)
    each = (alpha / 2, 1 - alpha / 2)  # two bounds make one end
    less, more = (float(end) for end in np.quantile(drawn - base_drawn, each))
    small, large = (max(float(end), 0.0) for end in np.quantile(base_drawn, each))
    change = float(_root(np.array(value)) - _root(np.array(base)))
    low = _added(less, large if less > 0 else max(small, -less))
    high = _added(more, small if more > 0 else large)
    return Interval(np.array(change), np.array(min(low, change)), np.array(max(high, change)))


def _added(squared: float, base: float) -> float:
    """What a squared error adds to the error whose square is ``base``."""
    return float(_root(np.array(base + squared)) - _root(np.array(base)))


def _squared(weights: Numbers, model: Binned) -> tuple[float, Numbers]:
    """The squared error, and its resamples less what resampling adds of its own."""
    squared = float(model.squared_error(np.ones((1, weights.shape[1])))[0])
    drawn = model.squared_error(weights)
    return squared, drawn - drawn.mean() + squared


def selective_risk(told: Numbers, right: Numbers) -> Statistic:
    """The area as a function of weights: ``told`` (N,) confidences, ``right`` (N,) of 0/1.

    Answers of one confidence are kept or put aside together.
    """
    order = np.argsort(-told, kind="stable")
    wrong = 1 - right[order]
    ends = np.flatnonzero(np.append(np.diff(told[order]) != 0, True))

    def area(weights: Numbers) -> Numbers:
        sorted_weights = weights[:, order]
        kept = np.cumsum(sorted_weights, axis=1)[:, ends]
        missed = np.cumsum(sorted_weights * wrong, axis=1)[:, ends]
        step = np.diff(kept, axis=1, prepend=0.0)
        risk = missed / np.maximum(kept, 1e-12)
        return np.asarray((risk * step).sum(axis=1) / kept[:, -1])

    return area


def selective_change(candidate: tuple[Numbers, Numbers], parent: tuple[Numbers, Numbers]) -> Statistic:
    """How much larger the candidate's area is than the parent's, on the same weights."""
    one, other = selective_risk(*candidate), selective_risk(*parent)
    return lambda weights: one(weights) - other(weights)
