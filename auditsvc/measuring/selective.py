"""What a model's doubt is worth: the error rate among the answers that one keeps if the unsure ones are put aside.

A model whose confidence orders its answers well has few errors among the surest; one that lost that is as often wrong
where it is sure as where it is not.  The area under the curve of error rate against the share that is kept is the mean
error rate over all shares; smaller is better.

References: Y. Geifman and R. El-Yaniv (2017), "Selective Classification for Deep Neural Networks", arXiv:1705.08500;
Y. Geifman, G. Uziel and R. El-Yaniv (2019), "Bias-Reduced Uncertainty Estimation", arXiv:1805.08206 (the area).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from auditsvc.measuring.resampling import Statistic

Numbers = NDArray[np.float64]


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
