"""Distance between two data sets in the parent's outputs: the maximum mean discrepancy (MMD).

The outputs of a network before the decision describe an image; the MMD between two sets of outputs is 0 if their
distributions are equal.  The estimate is unbiased, so it can be slightly negative; its interval comes from blocks of
image pairs.

Reference: A. Gretton et al. (2012), "A Kernel Two-Sample Test", JMLR 13 (the linear-time estimate, section 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional

LARGEST = 2048
"""Numbers in a description; of more, neighbours are averaged."""


def image_features(outputs: Tensor) -> Tensor:
    """``(N, ...)`` outputs of any task to ``(N, D)`` descriptions, D at most ``LARGEST``; of classes the logits."""
    flat = outputs.flatten(1)
    return flat if flat.shape[1] <= LARGEST else functional.adaptive_avg_pool1d(flat[:, None], LARGEST)[:, 0]


@dataclass(frozen=True)
class Shift:
    """The distance, its one-sided bounds at ``alpha``, and the chance of one as large if there were none."""

    value: float
    low: float
    high: float
    chance: float
    images: int


def mean_discrepancy(one: Tensor, other: Tensor, alpha: float, seed: int) -> Shift:
    """The squared discrepancy of two sets of descriptions, ``(N, D)`` and ``(M, D)``, in units of the kernel (0..2).

    Descriptions are brought to the scale of ``one``; the kernel is a gaussian whose width is the median distance.
    """
    mean, spread = one.mean(dim=0), one.std(dim=0).clamp(min=1e-6)
    one, other = ((part - mean) / spread for part in (one.double(), other.double()))
    chance = np.random.default_rng(seed)
    pairs = min(len(one), len(other)) // 2
    x = one[torch.from_numpy(chance.permutation(len(one))[: 2 * pairs])].view(pairs, 2, -1)
    y = other[torch.from_numpy(chance.permutation(len(other))[: 2 * pairs])].view(pairs, 2, -1)
    width = (x[:, 0] - x[:, 1]).square().sum(1).median().clamp(min=1e-12)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(a - b).square().sum(1) / width)

    terms = kernel(x[:, 0], x[:, 1]) + kernel(y[:, 0], y[:, 1]) - kernel(x[:, 0], y[:, 1]) - kernel(x[:, 1], y[:, 0])
    value, error = float(terms.mean()), float(terms.std() / pairs**0.5)
    reach = float(stats.t.isf(alpha, pairs - 1)) * error
    unlikely = float(stats.t.sf(value / error, pairs - 1)) if error > 0 else 1.0
    return Shift(value, value - reach, value + reach, unlikely, 2 * pairs)
