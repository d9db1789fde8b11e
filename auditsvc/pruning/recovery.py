"""Recovery after each pruning step: batch-norm recalibration, then fine-tuning or knowledge distillation.

Recalibration estimates the normalisation statistics again; it needs no labels.  Fine-tuning uses labels, distillation
the parent's outputs, which cost one forward pass; with ``share`` 1 it needs no labels.  Pruned weights stay zero: they
are reset after every optimiser step.

A tenth of the images is held back from training, and the weights with the smallest loss on them are kept, those before
training included; a training that never makes this loss smaller is refused with the figures.  The rate rises over the
first steps and gradients are clipped.  In a network without normalisation (exporters to ONNX fold it into the
convolutions) each convolution gets one while it is trained, which changes no answer at first and is folded afterwards.

Reference: G. Hinton et al. (2015), "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.  P. Goyal et al.
(2017), "Accurate, Large Minibatch SGD", arXiv:1706.02677 (warm-up).  R. Pascanu et al. (2013), "On the difficulty of
training recurrent neural networks", arXiv:1211.5063 (clipping).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from auditsvc.datasets import Batch, Dataset
from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.ports import Progress, Tick
from auditsvc.pruning.plan import BatchNorm, Distillation, Recovery, Sources, Training
from auditsvc.tasks import task_named

RECALIBRATION_BATCH = 64

HELD_BACK, FEWEST_HELD_BACK, MOST_HELD_BACK = 0.1, 16, 1000
"""The share of the images on which training is judged, the fewest (at most a quarter), and the most."""

WARM_UP = 0.1
"""The share of the steps over which the rate rises."""

LONGEST = 5.0
"""Gradients with a larger norm are scaled to it."""


def recalibrated_batchnorm(parent: Model, model: Model, spec: BatchNorm, data: Dataset, seed: int) -> Model:
    """The model with normalisation statistics of its own, if they bring its answers nearer to the parent's.

    New statistics rescue a damaged model and cost a healthy one a little, so they are compared first: on the second
    half of the images, by the mean difference of the softened answers to the parent's.  No label is read.

    Raises:
        InvalidInput: a model without batch normalisation.
    """
    number = min(spec.images, data.ref.images)
    chosen = np.sort(np.random.default_rng(seed).permutation(data.ref.images)[:number]).astype(np.int64)
    again = Model(copy.deepcopy(model.module), model.card)
    norms = [layer for layer in again.module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not norms:
        raise InvalidInput(
            f"{model.card.architecture} has no batch normalisation whose statistics could be estimated again "
            "(exporters to ONNX fold it into the convolutions): leave batch-norm out; fine-tune or distillation train"
        )
    before = [(layer, layer.momentum) for layer in norms]
    for layer in norms:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        for batch in data.batches(RECALIBRATION_BATCH, chosen):
            again(batch.images)
    for layer, momentum in before:
        layer.eval()
        layer.momentum = momentum
    judged = chosen[number // 2 :]
    return again if _distance(parent, again, data, judged) < _distance(parent, model, data, judged) else model


def _distance(parent: Model, model: Model, data: Dataset, chosen: NDArray[np.int64]) -> float:
    """Mean Kullback-Leibler divergence of the model's answers from the parent's, in nats."""
    total = 0.0
    with torch.inference_mode():
        for batch in data.batches(RECALIBRATION_BATCH, chosen):
            wanted, found = parent(batch.images).log_softmax(1), model(batch.images).log_softmax(1)
            total += float(functional.kl_div(found, wanted, reduction="sum", log_target=True))
    return total / len(chosen)


Masks = dict[str, Tensor]
"""For a weight's name: where it may be other than zero."""


def masks_of(weights: dict[str, Tensor], names: tuple[str, ...]) -> Masks:
    """Where these weights are not zero."""
    return {name: weights[name] != 0 for name in names}


@dataclass(frozen=True)
class Trained:
    """A model after training, and its loss on ``images`` that were held back: before, and after the best epoch."""

    model: Model
    before: float
    best: float
    images: int


def trained(
    parent: Model, model: Model, spec: Training, data: Dataset, *, masks: Masks, seed: int, part: tuple[int, int],
    tick: Tick,
) -> Trained:  # fmt: skip
    """The best model of this training, the one before it included; ``part`` (first, last) are the epochs run now.

    The same seed on the same machine with the same number of threads gives the same bits.

    Raises:
        InvalidInput: a spec that moves images whose targets would stay, or a loss that is no number any more.
    """
    if model.card.task != "classification" and (spec.flip or spec.shift):
        raise InvalidInput(f"in {model.card.task} the targets have places: train without flip and with shift 0")
    again = Model(copy.deepcopy(model.module), model.card)
    judged, learned = _held_back(data)
    steps = math.ceil(len(learned) / spec.batch)
    kept = [(again.module.get_parameter(name), mask) for name, mask in masks.items()]
    before = best = _loss_on(parent, again, spec, data, judged)
    with _normalised(again, data, learned), _training(again, seed):
        best_weights = copy.deepcopy(again.module.state_dict())
        parameters = list(again.module.parameters())
        optimiser = torch.optim.SGD(
            parameters, spec.rate, spec.momentum, weight_decay=spec.decay, nesterov=spec.momentum > 0
        )
        for epoch in range(*part):
            for number, batch in enumerate(_shuffled(data, learned, spec, seed, epoch)):
                for group in optimiser.param_groups:
                    group["lr"] = spec.rate * _schedule((epoch * steps + number) / (spec.epochs * steps))
                optimiser.zero_grad()
                loss = _loss(parent, again, spec, batch)
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(parameters, LONGEST)
                optimiser.step()
                _mask(kept)
                tick()
            if not math.isfinite(float(loss.detach())):
                raise InvalidInput(f"training diverged in epoch {epoch + 1}; lower its rate (now {spec.rate:g})")
            found = _loss_on(parent, again, spec, data, judged)
            if found < best:
                best, best_weights = found, copy.deepcopy(again.module.state_dict())
        again.module.load_state_dict(best_weights)
    return Trained(again if best < before else model, before, best, len(judged))


def _held_back(data: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images to judge on and those to learn from; the same ones in every step, clusters undivided."""
    images, clusters = data.ref.images, data.slices.clusters
    groups = np.arange(images) if clusters is None or len(np.unique(clusters)) < 2 else np.asarray(clusters)
    names, counts = np.unique(groups, return_counts=True)
    order = np.random.default_rng(0).permutation(len(names))
    wanted = min(max(round(HELD_BACK * images), min(FEWEST_HELD_BACK, images // 4), 1), MOST_HELD_BACK)
    taken = min(int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1, len(names) - 1)
    judged = np.isin(groups, names[order[:taken]])
    return np.flatnonzero(judged), np.flatnonzero(~judged)


def _loss_on(parent: Model, model: Model, spec: Training, data: Dataset, chosen: NDArray[np.int64]) -> float:
    """The mean loss of these images in evaluation mode; infinite where it is no number."""
    training, total = model.module.training, 0.0
    model.module.eval()
    with torch.no_grad():
        for batch in data.batches(RECALIBRATION_BATCH, chosen):
            total += float(_loss(parent, model, spec, batch)) * len(batch.images)
    model.module.train(training)
    return total / len(chosen) if math.isfinite(total) else math.inf


class _Normalised(nn.Module):
    """A convolution and a normalisation of its own, as before an exporter folded the two.

    ``norm`` has the statistics of the convolution's answers; its scale and shift undo them.
    """

    def __init__(self, layer: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.layer, self.norm, norm.momentum = layer, norm, 0.1
        norm.load_state_dict(norm.state_dict() | {"weight": self._spread(), "bias": norm.running_mean})

    def _spread(self) -> Tensor:
        return (cast(Tensor, self.norm.running_var) + self.norm.eps).sqrt()

    def forward(self, images: Tensor) -> Tensor:
        """At first the convolution's own answer, but for the statistics of the batch in training."""
        return cast(Tensor, self.norm(self.layer(images)))

    def folded(self) -> nn.Conv2d:
        """The convolution alone, with the same answers in evaluation mode."""
        with torch.no_grad():
            gain, bias = self.norm.weight / self._spread(), cast(Tensor, self.layer.bias)
            self.layer.weight.mul_(gain.view(-1, 1, 1, 1))
            bias.copy_((bias - cast(Tensor, self.norm.running_mean)) * gain + self.norm.bias)
        return self.layer


@contextmanager
def _normalised(model: Model, data: Dataset, chosen: NDArray[np.int64]) -> Iterator[None]:
    """Convolutions of a network without any normalisation have one inside; at first it changes no answer."""
    layers = dict(model.module.named_modules())
    bare = not any(isinstance(layer, _BatchNorm | nn.GroupNorm | nn.LayerNorm) for layer in layers.values())
    found = {path: layer for path, layer in layers.items()
             if path and bare and isinstance(layer, nn.Conv2d) and layer.bias is not None}  # fmt: skip
    norms = {path: nn.BatchNorm2d(layer.out_channels, momentum=None) for path, layer in found.items()}
    hooks = [found[path].register_forward_hook(partial(_count, norm)) for path, norm in norms.items()]
    with torch.no_grad():
        for batch in data.batches(RECALIBRATION_BATCH, chosen[:MOST_HELD_BACK]) if hooks else ():
            model(batch.images)
    for hook in hooks:
        hook.remove()
    owners = {path: (layers[path.rpartition(".")[0]], path.rpartition(".")[2]) for path in found}
    made = {path: _Normalised(layer, norms[path]).eval() for path, layer in found.items()}
    for path, (owner, name) in owners.items():
        setattr(owner, name, made[path])
    try:
        yield
    finally:
        for path, (owner, name) in owners.items():
            setattr(owner, name, made[path].folded())


def _count(norm: nn.BatchNorm2d, _layer: nn.Module, _given: Any, output: Tensor) -> None:
    norm(output)


def _schedule(share: float) -> float:
    """What the rate is multiplied with after this share of the steps: a rise, then a cosine."""
    return min(1.0, (share + 1e-3) / WARM_UP) * (1 + math.cos(math.pi * share)) / 2


@contextmanager
def _training(model: Model, seed: int) -> Iterator[None]:
    """Train mode with fixed random numbers and repeatable kernels; evaluation mode afterwards."""
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        torch.use_deterministic_algorithms(True)
        model.module.train().requires_grad_(True)
        try:
            yield
        finally:
            model.module.eval().requires_grad_(False)
            torch.use_deterministic_algorithms(before)


def _shuffled(data: Dataset, learned: NDArray[np.int64], spec: Training, seed: int, epoch: int) -> Iterator[Batch]:
    """These images in a random order, moved a little; a last batch of one image is left out (no variance)."""
    order = np.random.default_rng((seed, epoch)).permutation(learned)
    generator = torch.Generator().manual_seed(seed * 1009 + epoch)
    for batch in data.batches(spec.batch, order):
        if len(batch.images) > 1:
            yield Batch(_moved(batch.images, spec, generator), batch.targets, batch.indices)


def _moved(images: Tensor, spec: Training, generator: torch.Generator) -> Tensor:
    """Each image shifted by up to ``shift`` pixels and, with ``flip``, randomly mirrored."""
    if spec.flip:
        mirror = torch.rand(len(images), generator=generator) < 0.5
        images = torch.where(mirror.view(-1, 1, 1, 1), images.flip(3), images)
    if not spec.shift:
        return images
    height, width = images.shape[2:]
    padded = functional.pad(images, (spec.shift,) * 4)
    moves = torch.randint(0, 2 * spec.shift + 1, (len(images), 2), generator=generator).tolist()
    return torch.stack(
        [image[:, top : top + height, left : left + width] for image, (top, left) in zip(padded, moves, strict=True)]
    )


def _loss(parent: Model, model: Model, spec: Training, batch: Batch) -> Tensor:
    task = task_named(model.card.task, model.card.classes)
    answers = model(batch.images)
    labels = task.loss(answers, batch.targets).mean()
    if not isinstance(spec, Distillation):
        return labels
    with torch.no_grad():
        wanted = parent(batch.images)
    soft = task.distillation_loss(answers, wanted, spec.temperature)
    return spec.share * soft + (1 - spec.share) * labels


def _mask(kept: Sequence[tuple[nn.Parameter, Tensor]]) -> None:
    with torch.no_grad():
        for parameter, mask in kept:
            parameter.mul_(mask)


@dataclass(frozen=True)
class AfterStep:
    """Recovers a pruned model; the epochs of the training are shared out evenly over the steps."""

    parent: Model
    recovery: Recovery
    sources: Sources
    steps: int
    seed: int
    progress: Progress
    _helped: list[bool] = field(default_factory=list)

    def __call__(self, model: Model, step: int, masks: Masks) -> Model:
        """The model after the recovery that belongs to this step, counted from 0; masked weights stay zero.

        Raises:
            InvalidInput: data that was not given, normalisation that is not there, or a training that diverged or
                never helped.
        """
        if statistics := self.recovery.batch_norm:
            data = self.sources.of(statistics.data, "batch-norm")
            with self.progress.step("normalisation statistics", None):
                before, model = model, recalibrated_batchnorm(self.parent, model, statistics, data, self.seed)
            if model is before:
                self.progress.say(
                    "the normalisation statistics were kept: new ones bring no answer nearer to the parent's"
                )
        training = self.recovery.training
        if training is None:
            return model
        part = (training.epochs * step // self.steps, training.epochs * (step + 1) // self.steps)
        if part[0] == part[1]:
            return model
        name = "distillation" if isinstance(training, Distillation) else "fine-tuning"
        data = self.sources.of(training.data, name)
        if data.ref.images < 2 * training.batch:
            raise InvalidInput(f"{name} needs at least two batches of {training.batch}; there are {data.ref.images}")
        ticks = (part[1] - part[0]) * math.ceil(data.ref.images / training.batch)
        with self.progress.step(f"{name}, epochs {part[0] + 1} to {part[1]}", ticks) as tick:
            done = trained(self.parent, model, training, data, masks=masks, seed=self.seed + step, part=part, tick=tick)
        self._helped.append(done.best < done.before)
        figures = f"the loss on {done.images} held-back images was {done.before:.4g} before and {done.best:.4g} after"
        if part[1] == training.epochs and not any(self._helped):
            raise InvalidInput(
                f"{name} made nothing better: {figures} its best epoch. Lower its rate (now {training.rate:g}), give "
                "more images or epochs, or leave it out"
            )
        self.progress.say(f"{name}, epochs {part[0] + 1} to {part[1]}: {figures}")
        return done.model
