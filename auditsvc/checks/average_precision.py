"""Average precision (AP) of a detector, over all confidence thresholds, as COCO defines it.

The check ``object_detection`` uses the model's own operating point.  AP also detects a model whose confidences were
flattened by pruning: it finds the same objects at a threshold of one half but can no longer be tuned.

References: T.-Y. Lin et al. (2014), "Microsoft COCO", arXiv:1405.0312 (the mean over ten overlaps, precision read
at 101 recalls, the mean over classes); M. Everingham et al. (2010), doi:10.1007/s11263-009-0275-4 (one overlap).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from auditsvc.datasets.dataset import Batch, Slices
from auditsvc.evaluation import CLEAN, Check, EvalContext
from auditsvc.evaluation.intervals import groups_of
from auditsvc.evaluation.metrics.ratio import interval_of, shift_to_margin
from auditsvc.models import Model
from auditsvc.records import CLEAN_CONDITION, Condition, Measured, Metric, Reading, Unmeasured
from auditsvc.tasks.boxes import match_detections, select_detections

Numbers = NDArray[np.float64]

OVERLAPS = np.arange(10) / 20 + 0.5
"""An answer finds an object if they overlap so far."""

RECALLS = np.linspace(0, 1, 101)

LEAST = 0.001
"""Detections with less confidence than this are ignored."""

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
            counts.append(np.stack([confidence.cpu().numpy()[kept] for _, confidence in each]))
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


_KINDS = {"ap": "average precision, the mean over overlaps 0.50 to 0.95", "ap50": "average precision at half overlap"}


class AveragePrecision(Check):
    """Compare average precision on every slice of at least ``min_images`` images.

    Emits ``ap`` (the mean over overlaps 0.50 to 0.95), ``ap50`` (half overlap), ``parent_ap``, ``parent_ap50``,
    ``drop.ap`` and ``drop.ap50``: parent less candidate.  Intervals are resampled by image, or by cluster.
    """

    id = "average_precision"
    version = 1
    needs = "scores"
    tasks = frozenset({"detection", "tracking"})
    topics = frozenset({"perf.accuracy"})

    draws: Annotated[int, Field(ge=200, le=5000)] = 400
    min_images: Annotated[int, Field(ge=2)] = 30

    def conditions(self) -> tuple[Condition, ...]:
        """One: the images untouched."""
        return (CLEAN_CONDITION,)

    def metrics(self) -> tuple[Metric, ...]:
        """Two, of both models, and their losses."""
        return tuple(metric for kind, title in _KINDS.items() for metric in _metrics(kind, title))

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One more pass of both models, for all that they say; then slice by slice."""
        pair, slices = case.pair(CLEAN), case.dataset.slices
        own, dense = (ranked(model, case.batches(None), len(case.dataset.classes))
                      for model in (case.candidate, case.parent))  # fmt: skip
        imperfect = [np.minimum(1 - score, score) for score in
                     (pair.candidate["score"].astype(float), pair.parent["score"].astype(float))]  # fmt: skip
        differing = np.abs(pair.change)
        rng = np.random.default_rng(case.seed)
        for name, inside in _places(slices):
            if len(inside) < self.min_images:
                reason = f"{len(inside)} images; a resampled interval needs {self.min_images}"
                none = Unmeasured(reason=reason, images=len(inside))
                yield from (Reading(metric=one.id, slice=name, outcome=none) for one in self.metrics())
                continue
            clusters = None if slices.clusters is None else slices.clusters[inside]
            weights, units = _weights(len(inside), clusters, self.draws, rng)
            unlike = [float(one[inside].mean()) * units for one in (*imperfect, differing)]
            found = [average_precision(one.of(inside), weights) for one in (own, dense)]
            yield from self._told(name, found, unlike, (len(inside), units), case.alpha)

    def _told(
        self, name: str, found: list[Numbers], unlike: list[float], size: tuple[int, int], alpha: float
    ) -> Iterator[Reading]:
        for kind, values in (("ap", [one.mean(axis=1) for one in found]), ("ap50", [one[:, 0] for one in found])):
            series = ((kind, values[0], 0.0), (f"parent_{kind}", values[1], 0.0),
                      (f"drop.{kind}", values[1] - values[0], -1.0))  # fmt: skip
            for (metric, one, floor), many in zip(series, unlike, strict=True):
                yield Reading(metric=metric, slice=name, outcome=self._outcome(one, many, size, alpha, floor))

    def _outcome(
        self, values: Numbers, unlike: float, size: tuple[int, int], alpha: float, floor: float
    ) -> Measured | Unmeasured:
        images, units = size
        if not np.isfinite(values[0]):
            return Unmeasured(reason="there is no object on the images of this slice", images=images)
        found = shift_to_margin(interval_of(values, self.draws, alpha, units), unlike, units, alpha, floor)
        return Measured(value=float(found.value), low=float(found.low), high=float(found.high), images=images)


def _metrics(kind: str, title: str) -> Iterator[Metric]:
    """One measure of the candidate, of the parent, and its loss."""
    yield Metric(id=kind, kind="ratio", better="higher", title=title)
    yield Metric(id=f"parent_{kind}", kind="ratio", better="higher", title=f"the parent's {title}")
    loss = f"loss against the parent in {title}"
    yield Metric(id=f"drop.{kind}", kind="difference", unit="points", better="lower", role="loss", title=loss)


def _places(slices: Slices) -> Iterator[tuple[str, NDArray[np.int64]]]:
    inside = [np.arange(slices.images)]
    inside += [np.flatnonzero(column.codes == code) for column in slices.columns for code in range(len(column.labels))]
    yield from zip(slices.names, inside, strict=True)


def _weights(
    images: int, clusters: NDArray[np.int64] | None, draws: int, rng: np.random.Generator
) -> tuple[Numbers, int]:
    """``(1 + draws + groups, images)``: all, resampled, each group left out; and the number of images or clusters."""
    groups, numbered = groups_of(images, clusters)
    units = images if numbered is None else int(numbered.max()) + 1
    drawn = rng.poisson(1.0, (draws, units)).astype(np.float64)
    left = (groups != np.arange(int(groups.max()) + 1)[:, None]).astype(np.float64)
    return np.concatenate((np.ones((1, images)), drawn if numbered is None else drawn[:, numbered], left)), units
