"""What images are like as a release and its parent see them: the audited ones once, those of use as they come.

Of every image there are the probabilities of the classes, the features before the last linear layer, and image
properties, all at the size that the network takes.  For tasks without class probabilities the outputs are the features.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.datasets import Dataset
from auditsvc.datasets.copies import fingerprints, fingerprints_of, near_pairs
from auditsvc.datasets.image_properties import PROPERTIES
from auditsvc.datasets.images import UNREADABLE, decode
from auditsvc.datasets.scaling import scaled_for
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.martingale import draw
from auditsvc.evaluation.metrics.mmd import image_features
from auditsvc.evaluation.observation_streams import MOST_NEIGHBOURS, Reference
from auditsvc.evaluation.perturbations.blur import gaussian_blur
from auditsvc.evaluation.perturbations.digital import contrast, gaussian_noise
from auditsvc.models import Model
from auditsvc.models.preprocessing import scaled_to
from auditsvc.ports import Context
from auditsvc.records import Candidate, Observation, Parent, Release, WatchReference, WatchSettings
from auditsvc.services.model_store import load_stored
from auditsvc.services.observations import Intake, Locate, Logged, add_observations, read_source, store_of

WATCHED_PROPERTIES = ("brightness", "contrast", "sharpness", "colourfulness")
FEATURES = 256
"""Numbers of the features; of more, neighbours are averaged."""

_BATCH = 64
_SAMPLE = 300
"""Audited images on which estimates of the accuracy are tried, under each condition."""

CONDITIONS: tuple[Any, ...] = (
    lambda images, _: images * 0.5,
    lambda images, _: images * 0.25,
    lambda images, seeds: gaussian_blur(images, seeds, 1.0),
    lambda images, seeds: gaussian_blur(images, seeds, 2.0),
    lambda images, seeds: gaussian_noise(images, seeds, 0.1),
    lambda images, seeds: contrast(images, seeds, 0.3),
)
"""Half and quarter of the light, blur twice, noise, little contrast."""


@dataclass(frozen=True)
class Answers:
    """Of ``N`` images: probabilities ``(N, classes)``, or none, features ``(N, D)``, properties ``(N,)`` by name."""

    scores: NDArray[np.float64]
    features: NDArray[np.float64]
    properties: dict[str, NDArray[np.float64]]


@dataclass
class Answering:
    """A release and its parent, which answer images."""

    model: Model
    dense: Model
    device: str

    @classmethod
    def of(cls, ctx: Context, release: Release) -> Answering:
        """The models of a release."""
        candidate = ctx.ledger.get(Candidate, release.candidate)
        parent = ctx.ledger.get(Parent, candidate.parent)
        model, dense = (load_stored(ctx, files).on(ctx.device) for files in (candidate.files, parent.files))
        return cls(model, dense, ctx.device)

    def answer(self, images: Tensor) -> Answers:
        """What the release says of ``(N, C, H, W)`` images in 0..1 at the network's size."""
        caught: list[Tensor] = []
        heads = [one for one in self.model.module.modules() if isinstance(one, nn.Linear)]
        hook = heads[-1].register_forward_pre_hook(lambda _, given: caught.append(given[0])) if heads else None
        try:
            with torch.inference_mode():
                outputs = self.model(images.to(self.device))
        finally:
            if hook:
                hook.remove()
        fits = caught and len(caught[-1]) == len(images)
        features = (caught[-1].flatten(1) if fits else image_features(outputs)).float()
        if features.shape[1] > FEATURES:
            features = functional.adaptive_avg_pool1d(features[:, None], FEATURES)[:, 0]
        found = {name: PROPERTIES[name](images).double().numpy() for name in WATCHED_PROPERTIES}
        return Answers(self._probabilities(outputs), features.double().cpu().numpy(), found)

    def parent(self, images: Tensor) -> NDArray[np.float64]:
        """``(N, classes)``: the parent's probabilities."""
        with torch.inference_mode():
            return self._probabilities(self.dense(images.to(self.device)))

    def _probabilities(self, outputs: Tensor) -> NDArray[np.float64]:
        if self.model.card.task != "classification":
            return np.zeros((len(outputs), 0))
        return np.asarray(outputs.double().softmax(1).cpu().numpy())


def reference_of(ctx: Context, settings: WatchSettings, locate: Locate) -> tuple[WatchReference, Reference]:
    """The audited images as these settings compare with them; measured when it is first asked for.

    Raises:
        InvalidInput: ``data`` of the settings is another data set now.
    """
    known = [one for one in ctx.ledger.find(WatchReference, settings.release) if one.dataset == settings.dataset]
    if known:
        return known[-1], Reference.unpack(ctx.blobs.read(known[-1].file))
    dataset = ctx.datasets.open(locate(settings.data))
    if dataset.ref.digest != settings.dataset:
        raise InvalidInput(f"{settings.data} is not the data set {settings.dataset} of the settings: name that one")
    made = measure_reference(Answering.of(ctx, ctx.ledger.get(Release, settings.release)), dataset)
    record = WatchReference(
        release=settings.release,
        dataset=settings.dataset,
        images=dataset.ref.images,
        file=ctx.blobs.put(made.pack()),
        at=ctx.clock.now(),
    )
    ctx.ledger.append(record, actor="auditsvc")
    return record, made


def measure_reference(models: Answering, dataset: Dataset) -> Reference:
    """Answer all audited images, and disturbed ones of a sample, once."""
    scaled, slices = scaled_for(dataset, models.model.card), dataset.slices
    parts, agree, right = [], [], []
    for batch in scaled.batches(_BATCH):
        images = models.model.fitted(batch.images)
        parts.append(found := models.answer(images))
        if found.scores.shape[1]:
            answer = found.scores.argmax(1)
            agree.append((models.parent(images).argmax(1) != answer).astype(float))
            right.append(answer == batch.targets.numpy())
    channels = {name: np.concatenate([one.properties[name] for one in parts]) for name in WATCHED_PROPERTIES}
    scores, features = (np.concatenate([getattr(one, name) for one in parts]) for name in ("scores", "features"))
    kept = np.arange(len(features))
    if slices.clusters is not None:
        kept = np.sort(np.unique(slices.clusters, return_index=True)[1])
    if scores.shape[1]:
        channels |= {"confidence": scores.max(1), "classes": scores.argmax(1).astype(float)}
        channels["disagreement"] = np.concatenate(agree)
    near, scale, channels["distance"] = _distances(features, kept)
    prints = fingerprints(scaled)
    return Reference(
        channels={name: found[kept] for name, found in channels.items()},
        columns={one.column: np.array([*one.labels, ""])[one.codes[kept]] for one in slices.columns},
        near=near,
        scale=scale,
        pixels=frozenset(_names(prints.digests)),
        thumbnails=prints.thumbnails,
        estimator=_estimator(models, scaled, scores, np.concatenate(right)) if right else None,
    )


def _names(numbers: NDArray[np.uint64]) -> list[str]:
    return [f"{number:016x}" for number in numbers.tolist()]


def _distances(features: NDArray[np.float64], kept: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Half of the images that count, scaled; their mean and spread; the distances of the others, NaN elsewhere."""
    order = np.random.default_rng(0).permutation(kept)
    half, other = order[: len(order) // 2][:MOST_NEIGHBOURS], order[len(order) // 2 :]
    scale = np.stack((features[half].mean(0), features[half].std(0).clip(1e-6))) if len(half) else features[:0]
    near = (features[half] - scale[0]) / scale[1] if len(half) else features[:0]
    shell = Reference({}, {}, near, scale, frozenset(), np.zeros(0, np.uint8))
    found = np.full(len(features), math.nan)
    for place in other if len(half) else ():
        found[place] = shell.distance(features[place])
    return near, scale, found


def _estimator(
    models: Answering, dataset: Dataset, scores: NDArray[np.float64], right: NDArray[np.bool_]
) -> tuple[float, float, int]:
    """The threshold of ATC, and the largest error of its estimates on disturbed images of a sample."""
    threshold = float(np.quantile(scores.max(1), 1 - right.mean()))
    chosen = np.sort(np.random.default_rng(0).permutation(len(right))[:_SAMPLE])
    errors = []
    for disturb in (lambda images, _: images, *CONDITIONS):
        confident, correct = [], []
        for batch in dataset.batches(_BATCH, chosen):
            images = disturb(models.model.fitted(batch.images), batch.indices.long()).clamp(0, 1)
            found = models.answer(images).scores
            confident.append(found.max(1) > threshold)
            correct.append(found.argmax(1) == batch.targets.numpy())
        errors.append(abs(float(np.concatenate(confident).mean() - np.concatenate(correct).mean())))
    return threshold, max(errors), len(CONDITIONS)


def take_in(ctx: Context, settings: WatchSettings, reference: Reference, locate: Locate) -> Intake:
    """Everything in the source of the settings that is not known yet; images are answered.

    Raises:
        NotFound: there is no such source.
        InvalidInput: rows or images that can't be used.
    """
    if not settings.source:
        return Intake(added=0, repeated=0)
    release = ctx.ledger.get(Release, settings.release)
    models: Answering | None = None
    done = []
    rows = read_source(locate(settings.source), datetime.timedelta(days=settings.retention_days), ctx.clock.now())
    while part := tuple(islice(rows, _BATCH)):
        known = store_of(ctx).known(release.digest, [one.seen.id for one in part if one.seen.id and one.file])
        new = [one for one in part if not (one.file and one.seen.id in known)]
        with_image = [one for one in new if one.file]
        seen = [one.seen for one in new if not one.file]
        audited: tuple[str, ...] = ()
        if with_image:
            models = models or Answering.of(ctx, release)
            found, audited = _answered(models, settings, reference, with_image)
            seen += found
        taken = add_observations(ctx, release, seen)
        done.append(taken.model_copy(update={"audited": audited, "repeated": taken.repeated + len(part) - len(new)}))
    return Intake(
        added=sum(one.added for one in done),
        repeated=sum(one.repeated for one in done),
        labelled=sum(one.labelled for one in done),
        audited=tuple(chain.from_iterable(one.audited for one in done))[:20],
    )


def _answered(
    models: Answering, settings: WatchSettings, reference: Reference, rows: Sequence[Logged]
) -> tuple[list[Observation], tuple[str, ...]]:
    """The rows with the answers to their images, and the names of images that were audited."""
    card = models.model.card
    images = torch.cat([scaled_to(_read(one, grey=card.input.channels == 1), card) for one in rows])
    prints = fingerprints_of(images)
    copies = {int(place) for place in near_pairs(prints.thumbnails, reference.thumbnails)[0]}
    names, found = _names(prints.digests), models.answer(images)
    drawn = [place for place, row in enumerate(rows) if draw(settings.digest, row.seen.id)[0] < settings.parent_share]
    dense = dict(zip(drawn, models.parent(images[drawn]).tolist(), strict=True)) if drawn else {}
    made, audited = [], []
    for place, row in enumerate(rows):
        if place in copies or names[place] in reference.pixels:
            audited.append(str(row.file and row.file.name))
            continue
        fields: Mapping[str, Any] = {
            "image": names[place],
            "scores": tuple(found.scores[place].tolist()),
            "parent": tuple(dense.get(place, ())),
            "features": tuple(found.features[place].tolist()),
            "properties": {name: float(held[place]) for name, held in found.properties.items()},
        }
        made.append(row.seen.model_copy(update=fields))
    return made, tuple(audited)


def _read(row: Logged, *, grey: bool) -> Tensor:
    """``(1, C, H, W)`` in 0..1."""
    if row.file is None or not row.file.is_file():
        raise InvalidInput(f"the log names the image {row.file}, which is not there")
    try:
        pixels = np.asarray(decode(row.file.read_bytes(), grey=grey))
    except UNREADABLE as error:
        raise InvalidInput(f"the image {row.file} can't be read: {error}") from error
    return torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1).copy()).movedim(-1, 0)[None].float() / 255
