"""Average precision of a detector's answers, by descending confidence, for any weights of the images.

References: T.-Y. Lin et al. (2014), "Microsoft COCO", arXiv:1405.0312 (the mean over ten overlaps, precision read
at 101 recalls, the mean over classes); M. Everingham et al. (2010), doi:10.1007/s11263-009-0275-4 (one overlap).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from auditsvc.datasets.dataset import Batch
from auditsvc.models import Model
from auditsvc.tasks.boxes import match_detections, select_detections

Numbers = NDArray[np.float64]

OVERLAPS = np.arange(10) / 20 + 0.5
"""An answer finds an object if they overlap so far."""

RECALLS = np.linspace(0, 1, 101)

LEAST = 0.001
"""Answers that are less sure than this are not looked at."""

ROOM = 4_000_000
"""Numbers in memory at once, for each of a few arrays."""


@dataclass(frozen=True)
class Ranked:
    """Answers of all images, the surest first: ``classes`` (D,), ``images`` (D,), and for each overlap whether one is
    ``right`` (T, D) or ``counts`` at all (T, D); ``objects`` (N, C) of each image and class."""

    classes: NDArray[np.int64]
    images: NDArray[np.int64]
    right: NDArray[np.bool_]
    counts: NDArray[np.bool_]
    objects: Numbers

    def of(self, inside: NDArray[np.int64]) -> Ranked:
        """The same of these images alone, numbered anew."""
        places = np.full(len(self.objects), -1)
        places[inside] = np.arange(len(inside))
        kept = places[self.images] >= 0
        return Ranked(
            self.classes[kept], places[self.images[kept]], self.right[:, kept], self.counts[:, kept],
            self.objects[inside],
        )  # fmt: skip


def ranked(model: Model, batches: Iterable[Batch], classes: int) -> Ranked:
    """One pass of a detector."""
    scores, kinds, images, right, counts, objects = [], [], [], [], [], []
    done = 0
    with torch.inference_mode():
        for batch in batches:
            targets = batch.targets[..., :5]
            found = select_detections(model(batch.images), LEAST)
            kept = found.selected.cpu().numpy()
            each = [match_detections(found, targets, float(overlap)) for overlap in OVERLAPS]
            right.append(np.stack([(which >= 0).cpu().numpy()[kept] for which, _ in each]))
            counts.append(np.stack([told.cpu().numpy()[kept] for _, told in each]))
            scores.append(found.scores.cpu().numpy()[kept])
            kinds.append(found.classes.cpu().numpy()[kept])
            images.append(done + np.nonzero(kept)[0])
            there = targets[..., 0].long()
            objects.append(np.stack([(there == kind).sum(dim=1).cpu().numpy() for kind in range(classes)], axis=1))
            done += len(there)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    return Ranked(
        np.concatenate(kinds)[order],
        np.concatenate(images)[order],
        np.concatenate(right, axis=1)[:, order],
        np.concatenate(counts, axis=1)[:, order],
        np.concatenate(objects).astype(np.float64),
    )


def average_precision(answers: Ranked, weights: Numbers) -> Numbers:
    """``(B, T)``: for each row of weights ``(B, N)`` and overlap the mean over the classes; NaN where nothing is."""
    objects = weights @ answers.objects
    found = np.full((len(weights), len(OVERLAPS), answers.objects.shape[1]), np.nan)
    for kind in range(answers.objects.shape[1]):
        own = np.flatnonzero(answers.classes == kind)
        size = max(1, ROOM // max(len(own), 1))
        for start in range(0, len(weights), size):
            rows = slice(start, start + size)
            drawn = weights[rows][:, answers.images[own]]
            for number in range(len(OVERLAPS)):
                right, counts = answers.right[number, own], answers.counts[number, own]
                found[rows, number, kind] = _precision(drawn * right, drawn * counts, objects[rows, kind])
    there = np.isfinite(found)
    total = np.where(there, found, 0.0).sum(axis=2)
    return np.asarray(np.divide(total, there.sum(axis=2), out=np.full(total.shape, np.nan), where=there.any(axis=2)))


def _precision(right: Numbers, counts: Numbers, objects: Numbers) -> Numbers:
    """``(B,)``: the mean over the recalls of the best precision at that recall or beyond."""
    if right.shape[1] == 0:
        return np.where(objects > 0, 0.0, np.nan)
    hits, said = right.cumsum(axis=1), counts.cumsum(axis=1)
    precision = np.divide(hits, said, out=np.zeros_like(hits), where=said > 0)
    best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = np.divide(hits, objects[:, None], out=np.zeros_like(hits), where=objects[:, None] > 0)
    values = np.zeros(len(hits))
    for row, (reached, level) in enumerate(zip(recall, best, strict=True)):
        places = np.searchsorted(reached, RECALLS, side="left")
        values[row] = level[places[places < len(level)]].sum() / len(RECALLS)
    return np.where(objects > 0, values, np.nan)
