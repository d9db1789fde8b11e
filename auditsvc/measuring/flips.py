"""Which images a comparison keeps by name: those whose answer changed, what broke first.

All of them are counted in the readings (``lost`` and ``won`` of each loss); here are those that people can look at.
With one candidate, the images with a changed answer are its compression-identified exemplars; ``measuring.exemplars``
tells what several seeds of a recipe change alike.

Reference: S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from auditsvc.measuring.dataset import Dataset
from auditsvc.measuring.pairs import Pair
from auditsvc.records import Flip
from auditsvc.tasks import Task

KEPT, KEPT_CLEAN = (12, 4, 4), (400, 100, 100)
"""Images kept for each condition that lost, that won, and whose answer is another wrong one; of untouched images more,
because there pruning is all that can have changed the answer."""


def changed(pair: Pair) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The places of images that the candidate does worse, better, and as badly with another answer."""
    change, lost, won = pair.change, pair.lost, pair.won
    other = ~lost & ~won & (pair.parent["score"] < 1) & (pair.parent["answer"] != pair.candidate["answer"])
    places = (np.flatnonzero(lost), np.flatnonzero(won), np.flatnonzero(other))
    return places[0][_largest(change[lost])], places[1][_largest(-change[won])], places[2]


def _largest(change: NDArray[np.float64]) -> NDArray[np.int64]:
    """The largest changes first, equal ones in the data set's order."""
    return np.argsort(-change, kind="stable")


def flips_of(pair: Pair, dataset: Dataset, task: Task, kept: tuple[int, int, int]) -> Iterator[Flip]:
    """The images of a pair to be kept, lost ones first, and of these the largest losses."""
    for places, most in zip(changed(pair), kept, strict=True):
        for place in places[:most]:
            index = int(place if pair.chosen is None else pair.chosen[place])
            yield Flip(
                image=dataset.name_of(index),
                condition=pair.name,
                parent=task.words(pair.parent[place]),
                candidate=task.words(pair.candidate[place]),
                target=task.target_words(dataset.target_of(index)),
                slices=dataset.slices.of(index),
                scores=tuple(float(side["score"][place]) for side in (pair.parent, pair.candidate))
                if task.tallied
                else None,
            )
