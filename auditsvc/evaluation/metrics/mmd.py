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
from numpy.typing import NDArray
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


Clusters = NDArray[np.int64] | None


def _paired(
    images: int, clusters: Clusters, chance: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``(P, 2)`` images that share no cluster, and ``(P,)`` the block of each pair: no two blocks share a cluster."""
    if clusters is None:
        half = images // 2
        return chance.permutation(images)[: 2 * half].reshape(half, 2), np.arange(half)
    order = [chance.permutation(np.flatnonzero(clusters == one)) for one in chance.permutation(np.unique(clusters))]
    pairs = [np.stack((a[: len(b)], b[: len(a)]), axis=1) for a, b in zip(order[::2], order[1::2], strict=False)]
    return np.concatenate(pairs), np.repeat(np.arange(len(pairs)), [len(one) for one in pairs])


def mean_discrepancy(
    one: Tensor, other: Tensor, alpha: float, seed: int, clusters: tuple[Clusters, Clusters] = (None, None)
) -> Shift:
    """The squared discrepancy of two sets of descriptions, ``(N, D)`` and ``(M, D)``, in units of the kernel (0..2).

    Descriptions are brought to the scale of ``one``; the kernel is a gaussian whose width is the median distance.
    Where images are of ``clusters``, a block of pairs is of clusters of its own; the spread is that between blocks.
    """
    mean, spread = one.mean(dim=0), one.std(dim=0).clamp(min=1e-6)
    one, other = ((part - mean) / spread for part in (one.double(), other.double()))
    chance = np.random.default_rng(seed)
    (first, block), (second, other_block) = (
        _paired(len(part), of, chance) for part, of in zip((one, other), clusters, strict=True)
    )
    shared = min(block[-1], other_block[-1]) + 1
    sizes = np.minimum(np.bincount(block)[:shared], np.bincount(other_block)[:shared])
    of_block = np.repeat(np.arange(shared), sizes)
    kept = [np.concatenate([start + np.arange(size) for start, size in zip(starts, sizes, strict=True)])
            for starts in (np.searchsorted(part, np.arange(shared)) for part in (block, other_block))]  # fmt: skip
    x, y = one[torch.from_numpy(first[kept[0]])], other[torch.from_numpy(second[kept[1]])]
    width = (x[:, 0] - x[:, 1]).square().sum(1).median().clamp(min=1e-12)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(a - b).square().sum(1) / width)

    terms = kernel(x[:, 0], x[:, 1]) + kernel(y[:, 0], y[:, 1]) - kernel(x[:, 0], y[:, 1]) - kernel(x[:, 1], y[:, 0])
    value, pairs = float(terms.mean()), len(terms)
    total = np.bincount(of_block, weights=(terms - value).numpy(), minlength=int(shared))
    error = float(np.sqrt((total**2).sum() * shared / max(shared - 1, 1))) / pairs
    reach = float(stats.t.isf(alpha, shared - 1)) * error
    unlikely = float(stats.t.sf(value / error, shared - 1)) if error > 0 else 1.0
    return Shift(value, value - reach, value + reach, unlikely, 2 * pairs)
