"""One candidate beside its parent on the same images: all that a check sees.

Batching, seeds, slices, pairing and intervals are here, once.  A check says what to do to the images; the
case says what that did to both models, for every slice.  What is remembered of the parent is bound to the
parent's digest, the data set and the condition, so auditing a second candidate costs half of the first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditsvc.measuring.dataset import Batch, Dataset
from auditsvc.measuring.pairs import paired_readings
from auditsvc.measuring.randomness import image_seeds
from auditsvc.models import Model
from auditsvc.records import Digest, Flip, Reading
from auditsvc.tasks import Task

Disturbance = Callable[[Tensor, Tensor], Tensor]
"""``(images (N, C, H, W) in 0..1, seeds (N,)) -> images``; an image's result depends on its own seed alone."""

Attack = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, Tensor], Tensor]
"""``(outputs of the model, images, targets, seeds) -> images``; works against the model that it is given."""

Answers = NDArray[Any]
"""Structured ``(N,)``: ``score`` float32 in 0..1 and ``answer`` int64."""

ANSWER = np.dtype([("score", "<f4"), ("answer", "<i8")])

MAX_FLIPS = 200
"""Flips kept for people to look at, for each check; all of them are counted."""


@dataclass(frozen=True)
class MarkReading:
    """What detecting the watermark in the candidate gave."""

    log10_p: float
    z: float
    bits_matched: int
    bits_total: int
    flips: float
    images: int


@dataclass
class Case:
    """Candidate, parent, images, slices and seed."""

    candidate: Model
    candidate_digest: Digest
    parent: Model
    parent_digest: Digest
    task: Task
    dataset: Dataset
    seed: int
    alpha: float
    batch_size: int = 32
    remembered: MutableMapping[str, Answers] = field(default_factory=dict)
    tick: Callable[[int], None] = lambda _images: None
    read_mark: Callable[[], MarkReading] | None = None
    flips: list[Flip] = field(default_factory=list)

    def compare(self, name: str, disturb: Disturbance | None = None) -> Iterator[Reading]:
        """Both models on the same disturbed images: ``score.NAME``, ``parent.NAME`` and ``drop.NAME``."""

        def disturbed(_model: Model, batch: Batch) -> Tensor:
            return batch.images if disturb is None else disturb(batch.images, self._seeds(name, batch))

        yield from self._compared(name, disturbed, None)

    def compare_attacked(self, name: str, attack: Attack, images: int | None = None) -> Iterator[Reading]:
        """Each model under its own attack; ``images`` bounds how many are tried, drawn once from the seed."""

        def attacked(model: Model, batch: Batch) -> Tensor:
            with torch.inference_mode(mode=False):
                clones = batch.images.clone(), batch.targets.clone()
                return attack(model, *clones, self._seeds("attack", batch))

        yield from self._compared(name, attacked, self.sample(images))

    def sample(self, images: int | None) -> NDArray[np.int64] | None:
        """The numbers of ``images`` images drawn without replacement from the seed; None means all of them."""
        if images is None or images >= self.dataset.ref.images:
            return None
        draw = np.random.default_rng(self.seed).permutation(self.dataset.ref.images)
        return np.sort(draw[:images])

    def _seeds(self, name: str, batch: Batch) -> Tensor:
        return image_seeds(self.seed, name, batch.indices)

    def _compared(
        self, name: str, prepare: Callable[[Model, Batch], Tensor], chosen: NDArray[np.int64] | None
    ) -> Iterator[Reading]:
        """Run what is not remembered, pair it, and give the readings of every slice."""
        known = self._parent_key(name, chosen)
        parent = self.remembered.get(known)
        models = (self.candidate,) if parent is not None else (self.candidate, self.parent)
        found = self._answers(models, prepare, chosen)
        if parent is None:
            parent = self.remembered[known] = found[1]
        self._keep_flips(name, parent, found[0], chosen)
        yield from paired_readings(name, parent["score"], found[0]["score"], self.dataset.slices, chosen, self.alpha)

    def _answers(
        self, models: tuple[Model, ...], prepare: Callable[[Model, Batch], Tensor], chosen: NDArray[np.int64] | None
    ) -> list[Answers]:
        """Every model's scores and answers; a disturbed batch is made once where both models see the same."""
        total = self.dataset.ref.images if chosen is None else len(chosen)
        found = [np.zeros(total, ANSWER) for _ in models]
        start = 0
        with torch.inference_mode():
            for batch in self.dataset.batches(self.batch_size, chosen):
                end = start + len(batch.indices)
                for model, answers in zip(models, found, strict=True):
                    outputs = model(prepare(model, batch))
                    answers["score"][start:end] = self.task.scores(outputs, batch.targets).numpy()
                    answers["answer"][start:end] = self.task.answers(outputs).numpy()
                start = end
                self.tick(len(batch.indices))
        return found

    def _parent_key(self, name: str, chosen: NDArray[np.int64] | None) -> str:
        part = "all" if chosen is None else hashlib.sha256(chosen.tobytes()).hexdigest()
        return f"{self.parent_digest}|{self.dataset.ref.digest}|{self.seed}|{name}|{part}"

    def _keep_flips(self, name: str, parent: Answers, candidate: Answers, chosen: NDArray[np.int64] | None) -> None:
        """Remember which images changed from right to wrong, as far as there is room."""
        lost = np.flatnonzero(parent["score"] > candidate["score"])
        for place in lost[: MAX_FLIPS - len(self.flips)]:
            index = int(place if chosen is None else chosen[place])
            self.flips.append(
                Flip(
                    image=self.dataset.name_of(index),
                    condition=name,
                    parent=self.task.words(int(parent["answer"][place])),
                    candidate=self.task.words(int(candidate["answer"][place])),
                    target=self.task.words(self.dataset.target_of(index)),
                    slices=self.dataset.slices.of(index),
                )
            )
