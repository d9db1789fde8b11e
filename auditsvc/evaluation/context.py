"""The paired evaluation context: one candidate and its parent on the same images, as a check sees them.

Batching, seeds, slices, pairing and intervals are implemented here, once.  A check defines what to do to the images;
the context measures what that does to both models, for every slice.  Cached predictions of the parent are bound to the
parent's digest, the data set and what was done, so auditing a second candidate costs half of the first.

A comparison also keeps some images whose answer changed, the largest losses first, so that people can inspect them; the
readings count all of them (``lost`` and ``won`` of each loss).  For one candidate these images are its
compression-identified exemplars; ``evaluation.slice_discovery`` finds what several seeds of a recipe change alike.

Reference: S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248.
"""

from __future__ import annotations

import base64
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditsvc.datasets.dataset import Batch, Dataset, Slices
from auditsvc.datasets.images import as_png
from auditsvc.evaluation.energy import Power
from auditsvc.evaluation.fingerprint import fingerprint
from auditsvc.evaluation.inference import Queried, compile_model, fold_batchnorm
from auditsvc.evaluation.latency import RunCost
from auditsvc.evaluation.paired import (
    Pair,
    Predictions,
    Sample,
    empty_predictions,
    error_readings,
    levels,
    losses,
    measured,
    packed,
    paired_readings,
    unpacked,
)
from auditsvc.evaluation.randomness import image_seeds
from auditsvc.models import Model
from auditsvc.records import Digest, Flip, Measured, Reading, Unmeasured
from auditsvc.tasks import Task

MAX_FLIPS, MAX_CLEAN_FLIPS = (12, 4, 4), (400, 100, 100)
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
                parent=task.describe_answer(pair.parent[place]),
                candidate=task.describe_answer(pair.candidate[place]),
                target=task.describe_target(dataset.target_of(index)),
                slices=dataset.slices.of(index),
                scores=tuple(float(side["score"][place]) for side in (pair.parent, pair.candidate))
                if task.tally_size
                else None,
            )


CLEAN = "clean"
"""The condition in which nothing is done to the images."""

Disturbance = Callable[[Tensor, Tensor], Tensor]
"""``(images (N, C, H, W) in 0..1, seeds (N,)) -> images``; an image's result depends on its own seed alone."""

Outputs = Callable[[Tensor], Tensor]
"""The outputs of one model, as its task takes them: for classification ``(N, C, H, W) -> (N, classes)``."""

Attack = Callable[[Outputs, Tensor, Tensor, Tensor], Tensor]
"""``(outputs of the model, images, targets, seeds) -> images``; works against the model that it is given."""

COMPILE_FROM, COMPILE_FROM_PIXELS = 2000, 10_000_000
"""The least number of images, or of pixel values of all of them, for which compiling a copy of each model pays."""
SAMPLE = 16
"""The images on which a compiled copy must agree with its model before it is used."""


KEPT_BYTES = 256_000_000
"""Attacked images are kept in memory where all of one attack are smaller than this; else they are made again."""


class Attacks(Protocol):
    """One attack at several budgets at once, so that what falls to a small one is not tried at a larger."""

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Sequence[Tensor]:
        """For each budget the attacked images."""


@dataclass(frozen=True)
class WatermarkReading:
    """What detecting the watermark in the candidate gave."""

    log10_p: float
    z: float
    bits_matched: int
    bits_total: int
    flipped: NDArray[np.bool_]
    """``(N,)``: whether the mark changed the answer."""
    change: NDArray[np.float64]
    """``(N,)``: how much lower each image's score is with the mark."""
    clusters: NDArray[np.int64] | None = None

    @property
    def images(self) -> int:
        """How many images were answered with and without the mark."""
        return len(self.change)


@dataclass(frozen=True)
class DataFacts:
    """What the index of a whole data set says; ``leaked``, ``subjects``
    and ``undocumented`` are counts, or why they are not known."""

    images: int
    copies: int
    """Images that equal or nearly equal another one."""
    unusable: int
    leaked: int | str
    """Images that made the candidate or its parent."""
    subjects: int | str
    """Declared clusters of which other images made the candidate or its parent."""
    undocumented: int | str = 0
    """Data sets without a card that made the candidate or its parent."""
    licences: Mapping[str, str] = field(default_factory=dict)
    """Of the parent, of this data set, and of those that made the two."""


@dataclass
class EvalContext:
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
    cache: MutableMapping[str, Predictions] = field(default_factory=dict)
    tick: Callable[[int], None] = lambda _images: None
    read_mark: Callable[[], WatermarkReading] | None = None
    open_run: Callable[[str], tuple[Outputs, Outputs]] | None = None
    """The candidate's file in a runtime (``openvino/int8``): its answers in a batch, and one image at a time."""
    read_answers: Callable[[Outputs], tuple[float, int]] | None = None
    """``log10 p`` of the candidate's mark in another model's answers to its queries, and how many these are."""
    time_run: Callable[[str, int], RunCost] | None = None
    """Its cost there, in so many turns with the parent."""
    measure_power: Callable[[str], Power] | None = None
    """The power that it takes there."""
    data_facts: Callable[[], DataFacts] | None = None
    draws: MutableMapping[str, tuple[float, ...]] = field(default_factory=lambda: defaultdict(tuple), repr=False)
    """What searches found in pseudo-candidates of the parent, by search; kept for its next candidate."""
    flips: list[Flip] = field(default_factory=list)
    device: str = "cpu"
    """Where both models already are; images are moved there, batch by batch."""
    compiled: dict[int, Outputs] = field(default_factory=dict, repr=False)
    adversarial: dict[str, NDArray[Any]] = field(default_factory=dict, repr=False)
    """The candidate's attacked images by attack and batch, up to ``KEPT_BYTES`` for each batch's attack."""
    also: tuple[Outputs, ...] = field(default=(), repr=False)
    """The other ways in which the candidate's files answer images: a runtime file, one image at a time.  On untouched
    images the worst of all counts, image by image, because any of them may be what is used."""

    def compare(self, name: str, disturb: Disturbance | None = None) -> Iterator[Reading]:
        """Both models on the same disturbed images: ``score.NAME``, ``parent.NAME`` and ``drop.NAME``."""
        yield from self.readings(self.pair(name, disturb))

    def compare_attacked(self, name: str, attack: Attack, images: int | None = None) -> Iterator[Reading]:
        """Each model under its own attack; ``images`` bounds how many are tried, drawn once from the seed."""
        (pair,) = self.pairs_attacked((name,), OneBudget(attack), images)
        yield from self.readings(pair)

    def readings(self, pair: Pair, *, errors_apart: bool = False) -> Iterator[Reading]:
        """The readings of one condition on every slice; with ``errors_apart`` also misses and false alarms."""
        yield from paired_readings(
            pair.name,
            pair.parent["score"],
            pair.candidate["score"],
            self.dataset.slices,
            pair.chosen,
            self.alpha,
            pair.step,
        )
        if errors_apart:
            yield from error_readings(pair, len(self.dataset.classes), self.dataset.slices, self.alpha)

    def pair(self, name: str, disturb: Disturbance | None = None, stream: str = "") -> Pair:
        """Both models' answers to every image under one condition; the disturbed images are made once.

        The images' seeds are drawn for ``stream``, by default the condition's name.
        """
        stream = stream or name
        done = fingerprint(disturb)
        parent = self._cached(self.parent_digest, name, done)
        candidate = self._cached(self.candidate_digest, name, done) if name == CLEAN else None
        missing = [model for model, known in ((self.candidate, candidate), (self.parent, parent)) if known is None]
        found = self._disturbed(missing, name, disturb, stream) if missing else []
        if candidate is None:
            candidate = found.pop(0)
            if name == CLEAN:
                self._store(self.candidate_digest, name, done, candidate)
        if parent is None:
            parent = found.pop(0)
            self._store(self.parent_digest, name, done, parent)
        return self._paired(name, parent, candidate, None)

    def pairs_attacked(
        self, names: Sequence[str], attacks: Attacks, images: int | None, *, crossed: bool = False
    ) -> tuple[Pair, ...]:
        """Each model under its own attacks, one pair for each budget.

        With ``crossed`` each model also answers the images that were made against the other one, and the lower score
        counts: a model that hides its gradients is not more robust than what its relative's gradients show.
        """
        chosen = self.sample(images)
        done = fingerprint((attacks, tuple(names)))
        words = [f"{name}|{self._sample_key(chosen)}" for name in names]
        parents = [self._cached(self.parent_digest, word, done) for word in words]
        known = [answers for answers in parents if answers is not None]
        if len(known) < len(names):
            known = self._attacked(self.parent, self.parent, names, attacks, chosen)
            for word, answers in zip(words, known, strict=True):
                self._store(self.parent_digest, word, done, answers)
        candidates = self._attacked(self.candidate, self.candidate, names, attacks, chosen)
        if crossed:
            known = _worse(known, self._attacked(self.candidate, self.parent, names, attacks, chosen))
            candidates = _worse(candidates, self._attacked(self.parent, self.candidate, names, attacks, chosen))
        return tuple(
            self._paired(name, before, after, chosen)
            for name, before, after in zip(names, known, candidates, strict=True)
        )

    def pairs_crossed(self, names: Sequence[str], attacks: Sequence[Attacks], images: int | None) -> tuple[Pair, ...]:
        """Each model on images that were made against the other one by several attacks; the lowest score counts."""
        chosen = self.sample(images)

        def lowest(target: Model, evaluated: Model) -> list[Predictions]:
            return reduce(_worse, (self._attacked(target, evaluated, names, one, chosen) for one in attacks))

        parents, candidates = lowest(self.candidate, self.parent), lowest(self.parent, self.candidate)
        return tuple(
            self._paired(name, before, after, chosen)
            for name, before, after in zip(names, parents, candidates, strict=True)
        )

    def sample(self, images: int | None) -> NDArray[np.int64] | None:
        """The numbers of ``images`` images drawn without replacement from the seed; None means all of them."""
        if images is None or images >= self.dataset.ref.images:
            return None
        draw = np.random.default_rng(self.seed).permutation(self.dataset.ref.images)
        return np.sort(draw[:images])

    def gather(self, chosen: NDArray[np.int64] | None) -> Batch:
        """The images, or the chosen ones, as one batch."""
        parts = list(self.batches(chosen))
        names = ("images", "targets", "indices")
        return Batch(*(torch.cat([getattr(one, name) for one in parts]) for name in names))

    def first_half(self, numbers: Tensor) -> Tensor:
        """``(N,)`` bool: half of these images, drawn from the seed, that shares no cluster with the others."""
        of = self.dataset.slices.clusters
        units = numbers.cpu().numpy() if of is None else of[numbers.cpu().numpy()]
        known = np.random.default_rng(self.seed).permutation(np.unique(units))
        return torch.from_numpy(np.isin(units, known[: len(known) // 2])).to(numbers.device)

    def mean(self, values: Tensor, numbers: Tensor, empty: str = "no image was tried") -> Measured | Unmeasured:
        """The mean of one value of each of these images, in 0..1, or in -1..1 where any is negative."""
        chosen, found = numbers.cpu().numpy(), values.cpu().numpy()
        of = self.dataset.slices.clusters
        sample = Sample(found, Slices(len(chosen), (), None if of is None else of[chosen]), None)
        interval = losses if (found < 0).any() else levels
        return measured(interval(sample, self.alpha), sample, empty)[0]

    def show(self, index: int, condition: str, answers: tuple[str, str], picture: Tensor) -> None:
        """Keep a picture ``(C, H, W)`` in 0..1 of an image, with the parent's and the candidate's answers."""
        pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8).movedim(0, -1).cpu().numpy()
        self.flips.append(
            Flip(
                image=self.dataset.name_of(index),
                condition=condition,
                parent=answers[0],
                candidate=answers[1],
                target=self.task.describe_target(self.dataset.target_of(index)),
                slices=self.dataset.slices.of(index),
                picture=base64.b64encode(as_png(pixels)).decode(),
            )
        )

    def batches(self, chosen: NDArray[np.int64] | None) -> Iterator[Batch]:
        """The images, or the chosen ones, on the case's device, in batches; reports progress."""
        for batch in self.dataset.batches(self.batch_size, chosen):
            yield Batch(batch.images.to(self.device), batch.targets.to(self.device), batch.indices.to(self.device))
            self.tick(len(batch.indices))

    def seeds(self, name: str, batch: Batch) -> Tensor:
        """The seeds of a batch's images for one purpose."""
        return image_seeds(self.seed, name, batch.indices)

    def _disturbed(
        self,
        models: Sequence[Model],
        name: str,  # noqa: ARG002 - what a shard files its predictions under
        disturb: Disturbance | None,
        stream: str,
    ) -> list[Predictions]:
        found = [empty_predictions(self.dataset.ref.images, self.task.tally_size) for _ in models]
        start = 0
        with torch.inference_mode():
            for batch in self.batches(None):
                images = batch.images if disturb is None else disturb(batch.images, self.seeds(stream, batch))
                for model, answers in zip(models, found, strict=True):
                    part = answers[start : start + len(batch.targets)]
                    self._write(part, 0, self._compiled(model, images)(images), batch.targets)
                    if disturb is None and model is self.candidate:
                        self._keep_worst(part, images, batch.targets)
                start += len(batch.indices)
        return [packed(answers) for answers in found]

    def _compiled(self, model: Model, sample: Tensor) -> Outputs:
        """The model, compiled once for long runs."""
        images = self.dataset.ref.images
        if images < COMPILE_FROM and images * sample[0].numel() < COMPILE_FROM_PIXELS:
            return model
        if id(model) not in self.compiled:
            with torch.inference_mode(mode=False):
                self.compiled[id(model)] = compile_model(model, sample[:SAMPLE].clone())
        return self.compiled[id(model)]

    def queried(self, model: Model, sample: Tensor) -> Outputs:
        """What an attack queries: folded layers, and answers of the compiled copy where there is one."""
        layers, answers = fold_batchnorm(model), self._compiled(model, sample)
        return layers if answers is model else Queried(layers, answers)

    def _attacked(
        self, target: Model, evaluated: Model, names: Sequence[str], attacks: Attacks, chosen: NDArray[np.int64] | None
    ) -> list[Predictions]:
        """Attack one model and let another one, or the same, answer; the attack sees a fused copy, the judge is
        the model as it is deployed."""
        total = self.dataset.ref.images if chosen is None else len(chosen)
        found = [empty_predictions(total, self.task.tally_size) for _ in names]
        quick, start = None, 0
        for batch in self.batches(chosen):
            quick = quick or self.queried(target, batch.images)
            versions = self._versions(target, quick, attacks, batch)
            with torch.inference_mode():
                for images, answers in zip(versions, found, strict=True):
                    self._write(answers, start, evaluated(images), batch.targets)
            start += len(batch.indices)
        return [packed(answers) for answers in found]

    def _versions(self, target: Model, quick: Outputs, attacks: Attacks, batch: Batch) -> Sequence[Tensor]:
        """The attacked images of one batch; kept, as the other model is asked the same images.

        Those of the parent are kept in ``cache``, for the next candidate.
        """
        done, seeds = fingerprint(attacks), self.seeds("attack", batch)
        kept = self.cache if target is self.parent else self.adversarial
        which = hashlib.sha256(batch.indices.cpu().numpy().tobytes()).hexdigest()
        key = self._key(self.parent_digest if target is self.parent else self.candidate_digest, which, done or "")
        if key in kept:
            return [torch.from_numpy(one).to(self.device) for one in kept[key]]
        versions = attacks(quick, batch.images, batch.targets, seeds)
        if done is not None and batch.images.nbytes * len(versions) * self._batches() <= KEPT_BYTES:
            kept[key] = np.stack([one.cpu().numpy() for one in versions])
        return versions

    def _batches(self) -> int:
        return -(-self.dataset.ref.images // self.batch_size)

    def _keep_worst(self, part: Predictions, images: Tensor, targets: Tensor) -> None:
        """Where another run of the candidate's files scores lower, its answer takes the place of the model's."""
        for run in self.also:
            other = empty_predictions(len(targets), self.task.tally_size)
            self._write(other, 0, run(images), targets)
            lower = other["score"] < part["score"]
            part[lower] = other[lower]

    def _write(self, answers: Predictions, start: int, outputs: Tensor, targets: Tensor) -> None:
        part = answers[start : start + len(targets)]
        judged = self.task.score_batch(outputs, targets)
        for name in answers.dtype.names or ():
            part[name] = getattr(judged, name).cpu().numpy()

    def _cached(self, model: Digest, name: str, done: str | None) -> Predictions | None:
        return None if done is None else self.cache.get(self._key(model, name, done))

    def _store(self, model: Digest, name: str, done: str | None, answers: Predictions) -> None:
        if done is not None:
            self.cache[self._key(model, name, done)] = answers

    def _key(self, model: Digest, name: str, done: str) -> str:
        return f"{model}|{self.dataset.ref.digest}|{self.seed}|{name}|{hashlib.sha256(done.encode()).hexdigest()}"

    @staticmethod
    def _sample_key(chosen: NDArray[np.int64] | None) -> str:
        return "all" if chosen is None else hashlib.sha256(chosen.tobytes()).hexdigest()

    def _paired(self, name: str, parent: Predictions, candidate: Predictions, chosen: NDArray[np.int64] | None) -> Pair:
        """The pair; the images whose answer changed are kept as flips, up to a limit for each kind of change."""
        pair = Pair(name, parent, candidate, chosen, self.task.step)
        kept = MAX_CLEAN_FLIPS if name == CLEAN else MAX_FLIPS
        self.flips += flips_of(pair, self.dataset, self.task, kept)
        return pair


def _worse(ones: Sequence[Predictions], others: Sequence[Predictions]) -> list[Predictions]:
    """For each condition and image the answer of the lower score."""
    pairs = ((unpacked(one), unpacked(other)) for one, other in zip(ones, others, strict=True))
    return [packed(np.where(other["score"] < one["score"], other, one)) for one, other in pairs]


@dataclass(frozen=True)
class OneBudget:
    """An attack without a choice of budgets, as ``Attacks`` of one."""

    attack: Attack

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> tuple[Tensor, ...]:
        """The attacked images."""
        return (self.attack(outputs, images, targets, seeds),)
