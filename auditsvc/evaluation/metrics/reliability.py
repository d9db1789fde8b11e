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

from auditsvc.evaluation.intervals import Interval, Statistic

Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Binned:
    """Images in bins of about equal size by confidence: ``members`` (N, bins) of 0/1, ``told`` and ``right`` (N,)."""

    members: Numbers
    told: Numbers
    right: Numbers

    @classmethod
    def of(cls, told: Numbers, right: Numbers, bins: int) -> Binned:
        """Bins by the quantiles of the confidences; equal confidences share a bin."""
        edges = np.unique(np.quantile(told, np.arange(1, bins) / bins))
        places = np.searchsorted(edges, told, side="right")
        return cls((places[:, None] == np.arange(len(edges) + 1)).astype(np.float64), told, right)

    def squared_error(self, weights: Numbers) -> Numbers:
        """``(B,)``: the mean squared distance of accuracy from confidence, less its expectation by chance.

        Can be negative: an estimate of zero without bias must be.
        """
        count = weights @ self.members
        there = np.maximum(count, 1e-12)
        accuracy = weights @ (self.members * self.right[:, None]) / there
        distance = weights @ (self.members * (self.right - self.told)[:, None]) / there
        chance = np.where(count > 1, accuracy * (1 - accuracy) / np.maximum(count - 1, 1), 0.0)
        return np.asarray(((distance**2 - chance) * count).sum(axis=1) / count.sum(axis=1))

    def reliability(self) -> tuple[Numbers, Numbers, Numbers]:
        """Images, mean confidence and accuracy of each bin: the reliability curve."""
        count = self.members.sum(axis=0)
        there = np.maximum(count, 1)
        return count, self.told @ self.members / there, self.right @ self.members / there


def _root(squared: Numbers) -> Numbers:
    return np.sqrt(np.maximum(squared, 0))


def error_interval(weights: Numbers, alpha: float, model: Binned, other: Binned | None = None) -> Interval:
    """The calibration error of one model, or how much larger it is than another's, on the same resamples.

    Resampling adds the chance of the sample a second time; the mean of the resamples shows how much, and it is
    taken out of each of them before the root is drawn.
    """
    value, drawn = _error(weights, model)
    if other is not None:
        base, base_drawn = _error(weights, other)
        value, drawn = value - base, drawn - base_drawn
    low, high = np.quantile(drawn, (alpha, 1 - alpha))
    return Interval(np.array(value), np.minimum(low, value), np.maximum(high, value))


def _error(weights: Numbers, model: Binned) -> tuple[float, Numbers]:
    squared = float(model.squared_error(np.ones((1, weights.shape[1])))[0])
    drawn = model.squared_error(weights)
    return float(_root(np.array(squared))), _root(drawn - drawn.mean() + squared)


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
