"""Compression-identified exemplars: images on which most seeds of a recipe leave the parent's answer.

One candidate differs from its parent on some images because of what was pruned, and on others because any two runs
differ.  The answer that most seeds give is free of most of that luck.

Reference: S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248 (the modal
label; there of thirty runs of either side, here of as many seeds as were made, beside the one parent).
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Whole = NDArray[np.int64]


def modal(answers: Whole, parent: Whole) -> tuple[Whole, Whole]:
    """The answer that most of ``answers`` (K, N) give to each image, and how many give it.

    Where several are given equally often, the parent's is taken if it is among them, else the smallest: a tie is no
    agreement to leave the parent.
    """
    candidates = np.concatenate([parent[None], answers])
    votes = (candidates[:, None] == answers[None]).sum(axis=1)
    best = votes.max(axis=0)
    smallest = np.where(votes == best, candidates, np.iinfo(np.int64).max).min(axis=0)
    return np.where(votes[0] == best, parent, smallest), best


def disagreement(answers: Whole) -> float:
    """The share of images on which two of ``answers`` (K, N) differ, averaged over all pairs."""
    return float(np.mean([(one != other).mean() for one, other in combinations(answers, 2)]))
