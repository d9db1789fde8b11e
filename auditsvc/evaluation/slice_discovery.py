"""Exploration after an audit: slices that lose more than the rest, and compression-identified exemplars.

**Slice discovery** searches one half of the images and reports the other.  It tries every value of every column, and
every pair of values of different columns, that contains enough images: columns of the metadata, classes, and properties
of the image (light, contrast, sharpness, colour, size and position of the salient region).  The best of many tries is
always striking, also by chance, so the half that found a slice never states its loss; the other half does, corrected
for the number of suggestions.  A group that no column describes is not found.

**Exemplars** are images on which most seeds of a recipe leave the parent's answer.  One candidate differs from its
parent on some images because of what was pruned and on others because any two runs differ; the modal answer of several
seeds removes most of that noise.

References: Y. Chung et al. (2020), "Automated Data Slicing for Model Validation", doi:10.1109/TKDE.2019.2916074
(the lattice search); S. Sagadeeva and M. Boehm (2021), "SliceLine", doi:10.1145/3448016.3457323 (score and size);
S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248 (the modal label; there of
thirty runs of either side, here of as many seeds as were made, with one parent).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets.dataset import SliceColumn, Slices
from auditsvc.datasets.slicing import AND
from auditsvc.evaluation.paired import Sample, measured_losses
from auditsvc.records import Measured
from auditsvc.records.evidence import holm

Numbers = NDArray[np.float64]
Chosen = NDArray[np.int64]

LEAST = 20
"""Images of a group in the half that searches; under that anything is found."""

ALIKE = 0.5
"""Two groups that share more than so much of the smaller one are one."""


@dataclass(frozen=True)
class Group:
    """One suggestion: its expression, and the loss on either half."""

    expression: str
    found: Measured
    held: Measured
    adjusted: float


def halves(images: int, clusters: NDArray[np.int64] | None, seed: int) -> tuple[Chosen, Chosen]:
    """The images that search and those that judge; a cluster is never split."""
    rng = np.random.default_rng(seed)
    names = np.arange(images) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    first = rng.permutation(int(names.max()) + 1) % 2 == 0
    return np.flatnonzero(first[names]), np.flatnonzero(~first[names])


def discovered_slices(
    change: Numbers, slices: Slices, seed: int, alpha: float, most: int = 5, step: float = 0.0
) -> tuple[tuple[Group, ...], int]:
    """At most ``most`` groups with the largest losses, and how many were tried; ``change`` (N,) is each image's loss,
    and ``step`` what it must exceed for the image to be lost.

    The halves are drawn from the seed, so the same answers give the same suggestions.
    """
    search, judge = halves(slices.images, slices.clusters, seed)
    tried = list(_candidates(slices.columns, search))
    ranked = sorted(((_score(change[search], inside[search]), name, inside) for name, inside in tried), reverse=True,
                    key=lambda one: (one[0], one[1]))  # fmt: skip
    kept: list[tuple[str, NDArray[np.bool_]]] = []
    for score, name, inside in ranked:
        if score <= 0 or len(kept) == most:
            break
        if inside[judge].any() and all(_overlap(inside[search], other[search]) <= ALIKE for _, other in kept):
            kept.append((name, inside))
    confirmed = [_measured(change, judge[inside[judge]], slices, alpha, step) for _, inside in kept]
    adjusted = holm(("all", one.p or 0.0) for one in confirmed)
    groups = tuple(
        Group(name, _measured(change, search[inside[search]], slices, alpha, step), held, 1.0 if rate is None else rate)
        for (name, inside), held, rate in zip(kept, confirmed, adjusted, strict=True)
    )
    return groups, len(tried)


def _candidates(columns: Sequence[SliceColumn], search: Chosen) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Every value, and every two values of different columns, with enough images in the searching half."""
    single = [
        (number, name, column.codes == code)
        for number, column in enumerate(columns)
        for code, name in enumerate(column.names)
    ]
    single = [one for one in single if LEAST <= one[2][search].sum() < len(search)]
    yield from ((name, inside) for _, name, inside in single)
    for place, (number, name, inside) in enumerate(single):
        for other, second, also in single[place + 1 :]:
            both = inside & also
            if other != number and both[search].sum() >= LEAST:
                yield name + AND + second, both


def _score(change: Numbers, inside: NDArray[np.bool_]) -> float:
    """The group's loss minus that of the rest, in standard errors."""
    mine, rest = change[inside], change[~inside]
    if len(mine) < 2 or len(rest) < 2:
        return 0.0
    spread = np.sqrt((mine.var() + 1e-4) / len(mine) + (rest.var() + 1e-4) / len(rest))
    return float((mine.mean() - rest.mean()) / spread)


def _overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / max(min(one.sum(), other.sum()), 1))


def _measured(change: Numbers, chosen: Chosen, slices: Slices, alpha: float, step: float) -> Measured:
    """The loss of these images, which are some at least, with its interval and the p-value of no loss."""
    mine, clusters = change[chosen], None if slices.clusters is None else slices.clusters[chosen]
    (found,) = measured_losses(Sample(mine, Slices(len(mine), (), clusters), None), alpha, step)
    return Measured.model_validate(found.model_dump())


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
