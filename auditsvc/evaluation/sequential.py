"""An audit in stages: the same images in an order drawn once, more of them at each stage, none of them run twice.

A policy with ``stages`` is judged after each of them, and the audit stops as soon as it is decided.  Every interval is
made at alpha divided by the number of stages, so that all of them together, over all stages, err with at most alpha:
they are repeated confidence intervals, a confidence sequence with one interim analysis per stage.  That holds for
every reading, whatever its interval is made of, and for images in clusters, which are never split.

Intervals that hold after *every* image (betting) were tried: with a handful of stages they are wider than these.

References: C. Jennison and B. W. Turnbull (1989), "Interim Analyses: The Repeated Confidence Interval Approach",
doi:10.1111/j.2517-6161.1989.tb01433.x; I. Waudby-Smith and A. Ramdas (2024), doi:10.1093/jrsssb/qkad009 (betting).
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from auditsvc.datasets.dataset import Batch, Dataset, SliceColumn, Slices
from auditsvc.evaluation.context import Attacks, Disturbance, EvalContext
from auditsvc.evaluation.fingerprint import fingerprint
from auditsvc.evaluation.paired import Predictions, empty_predictions, packed
from auditsvc.models import Model
from auditsvc.records import DatasetRef, canonical_json, digest_of

Numbers = NDArray[np.int64]

Kept = MutableMapping[str, Predictions]
"""By what was done to which model: the answers to all images of the whole; no score where there is none yet."""


def order_of(slices: Slices, seed: int) -> Numbers:
    """All image numbers in the order in which stages take them; the images of a cluster are contiguous."""
    rng = np.random.default_rng(seed)
    if slices.clusters is None:
        return rng.permutation(slices.images)
    groups = np.unique(slices.clusters, return_inverse=True)[1]
    places = rng.permutation(int(groups.max()) + 1)
    return np.argsort(places[groups], kind="stable")


def stage_sizes(slices: Slices, seed: int, shares: Sequence[float]) -> tuple[int, ...]:
    """How many images each stage has; a cluster that begins in a stage belongs to it whole."""
    order, sizes = order_of(slices, seed), []
    for share in shares:
        size = max(1, round(share * slices.images))
        if slices.clusters is not None and size < slices.images:
            inside = slices.clusters[order]
            size = int(np.flatnonzero(inside == inside[size - 1])[-1]) + 1
        sizes.append(size)
    return tuple(dict.fromkeys(sizes))


@dataclass(frozen=True)
class Staged:
    """The first images of a data set in that order; implements ``Dataset``.  Numbers are those of the stage."""

    whole: Dataset
    order: Numbers
    size: int

    @cached_property
    def chosen(self) -> Numbers:
        """The numbers, in the whole, of the images of this stage."""
        return np.sort(self.order[: self.size])

    @cached_property
    def ref(self) -> DatasetRef:
        """The whole's, with the stage's images and a digest of its own."""
        name = {"whole": self.whole.ref.digest, "images": self.chosen.tolist()}
        return self.whole.ref.model_copy(update={"images": self.size, "digest": digest_of(canonical_json(name))})

    @cached_property
    def slices(self) -> Slices:
        """The whole's slices on these images; one of which no image is here yet is empty."""
        found = self.whole.slices
        columns = tuple(
            SliceColumn(one.column, one.labels, one.codes[self.chosen], one.titles) for one in found.columns
        )
        return Slices(self.size, columns, None if found.clusters is None else found.clusters[self.chosen])

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.whole.classes

    def batches(self, size: int, chosen: Numbers | None = None) -> Iterator[Batch]:
        """The images of this stage, or the chosen ones of them; ``indices`` are the whole's, so seeds are the same."""
        return self.whole.batches(size, self.chosen if chosen is None else self.chosen[chosen])

    def target_of(self, index: int) -> torch.Tensor:
        """The target of one image."""
        return self.whole.target_of(int(self.chosen[index]))

    def name_of(self, index: int) -> str:
        """The image's name."""
        return self.whole.name_of(int(self.chosen[index]))

    def index_of(self, name: str) -> int:
        """The number of the image of this name."""
        return int(np.searchsorted(self.chosen, self.whole.index_of(name)))

    def thumbnail(self, index: int) -> bytes:
        """The image as a small picture."""
        return self.whole.thumbnail(int(self.chosen[index]))


@dataclass
class StageContext(EvalContext):
    """A case on one stage; what earlier stages answered is ``kept``, and only new images are run."""

    kept: Kept = field(default_factory=dict)

    @property
    def _stage(self) -> Staged:
        if not isinstance(self.dataset, Staged):
            raise TypeError("a staged case needs a stage")
        return self.dataset

    def sample(self, images: int | None) -> Numbers | None:
        """The first ``images`` in the stages' order, so that later stages keep those of earlier ones."""
        stage = self._stage
        if images is None or images >= stage.size:
            return None
        return np.sort(np.searchsorted(stage.chosen, stage.order[:images]))

    def _disturbed(
        self, models: Sequence[Model], name: str, disturb: Disturbance | None, stream: str
    ) -> list[Predictions]:
        done = fingerprint(disturb)
        if done is None:
            return super()._disturbed(models, name, disturb, stream)
        shelves = [self._shelf(f"{self._who(model)}|{name}|{done}") for model in models]
        new = self._missing(shelves, None)
        with torch.inference_mode():
            for batch in self.batches(new) if len(new) else ():
                images = batch.images if disturb is None else disturb(batch.images, self.seeds(stream, batch))
                for model, shelf in zip(models, shelves, strict=True):
                    worst = disturb is None and model is self.candidate
                    self._put(shelf, batch, self._compiled(model, images)(images), images if worst else None)
        return [packed(shelf[self._stage.chosen]) for shelf in shelves]

    def _attacked(
        self, target: Model, evaluated: Model, names: Sequence[str], attacks: Attacks, chosen: Numbers | None
    ) -> list[Predictions]:
        done = fingerprint((attacks, tuple(names)))
        if done is None:
            return super()._attacked(target, evaluated, names, attacks, chosen)
        who = f"{self._who(target)}>{self._who(evaluated)}"
        shelves = [self._shelf(f"{who}|{name}|{done}") for name in names]
        quick, new = None, self._missing(shelves, chosen)
        for batch in self.batches(new) if len(new) else ():
            quick = quick or self.queried(target, batch.images)
            versions = self._versions(target, quick, attacks, batch)
            with torch.inference_mode():
                for images, shelf in zip(versions, shelves, strict=True):
                    self._put(shelf, batch, evaluated(images))
        here = self._stage.chosen if chosen is None else self._stage.chosen[chosen]
        return [packed(shelf[here]) for shelf in shelves]

    def _who(self, model: Model) -> str:
        digest = self.parent_digest if model is self.parent else self.candidate_digest
        return f"{digest}|{self._stage.whole.ref.digest}|{self.seed}"

    def _shelf(self, key: str) -> Predictions:
        if key not in self.kept:
            empty = empty_predictions(self._stage.whole.ref.images, self.task.tally_size)
            empty["score"] = np.nan
            self.kept[key] = empty
        return self.kept[key]

    def _missing(self, shelves: Sequence[Predictions], chosen: Numbers | None) -> Numbers:
        """The stage's numbers of the images that some shelf lacks."""
        wanted = np.arange(self._stage.size) if chosen is None else chosen
        lacking = np.any([np.isnan(shelf["score"][self._stage.chosen[wanted]]) for shelf in shelves], axis=0)
        return np.asarray(wanted[lacking])

    def _put(self, shelf: Predictions, batch: Batch, outputs: torch.Tensor, images: torch.Tensor | None = None) -> None:
        numbers = batch.indices.cpu().numpy()
        part = empty_predictions(len(numbers), self.task.tally_size)
        self._write(part, 0, outputs, batch.targets)
        if images is not None:
            self._keep_worst(part, images, batch.targets)
        shelf[numbers] = part
