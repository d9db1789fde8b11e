"""Recovery after each pruning step: batch-norm recalibration, then fine-tuning or knowledge distillation.

Recalibration estimates the normalisation statistics again; it needs no labels.  Fine-tuning uses labels, distillation
the parent's outputs, which cost one forward pass; with ``share`` 1 it needs no labels.  Pruned weights stay zero: they
are reset after every optimiser step.

Reference: G. Hinton et al. (2015), "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


def recalibrated_batchnorm(parent: Model, model: Model, spec: BatchNorm, data: Dataset, seed: int) -> Model:
    """The model with normalisation statistics of its own, if they bring its answers nearer to the parent's.

    New statistics rescue a damaged model and cost a healthy one a little, so they are compared first: on the second
    half of the images, by the mean difference of the softened answers to the parent's.  No label is read.
    """
    number = min(spec.images, data.ref.images)
    chosen = np.sort(np.random.default_rng(seed).permutation(data.ref.images)[:number]).astype(np.int64)
    again = Model(copy.deepcopy(model.module), model.card)
    norms = [layer for layer in again.module.modules() if isinstance(layer, _BatchNorm) and layer.track_running_stats]
    if not norms:
        return model
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


def trained(
    parent: Model, model: Model, spec: Training, data: Dataset, *, masks: Masks, seed: int, part: tuple[int, int],
    tick: Tick,
) -> Model:  # fmt: skip
    """The model after training; ``part`` (first, last) are the epochs of ``spec`` that are run now.

    The same seed on the same machine with the same number of threads gives the same bits.

    Raises:
        InvalidInput: a spec that moves images whose targets would stay, or a loss that is no number any more.
    """
    if model.card.task != "classification" and (spec.flip or spec.shift):
        raise InvalidInput(f"in {model.card.task} the targets have places: train without flip and with shift 0")
    again = Model(copy.deepcopy(model.module), model.card)
    steps = math.ceil(data.ref.images / spec.batch)
    with _training(again, seed):
        optimiser = torch.optim.SGD(
            again.module.parameters(), spec.rate, spec.momentum, weight_decay=spec.decay, nesterov=spec.momentum > 0
        )
        for epoch in range(*part):
            for number, batch in enumerate(_shuffled(data, spec, seed, epoch)):
                for group in optimiser.param_groups:
                    group["lr"] = spec.rate * _cosine((epoch * steps + number) / (spec.epochs * steps))
                optimiser.zero_grad()
                loss = _loss(parent, again, spec, batch)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                _mask(again.module, masks)
                tick()
            if not math.isfinite(float(loss.detach())):
                raise InvalidInput(f"training diverged in epoch {epoch + 1}; lower its rate (now {spec.rate:g})")
    return again


def _cosine(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


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


def _shuffled(data: Dataset, spec: Training, seed: int, epoch: int) -> Iterator[Batch]:
    """All images in a random order, moved a little; a last batch of one image is left out (no variance)."""
    order = np.random.default_rng((seed, epoch)).permutation(data.ref.images).astype(np.int64)
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


def _mask(module: nn.Module, masks: Masks) -> None:
    with torch.no_grad():
        parameters = dict(module.named_parameters())
        for name, mask in masks.items():
            parameters[name].mul_(mask)


@dataclass(frozen=True)
class AfterStep:
    """Recovers a pruned model; the epochs of the training are shared out evenly over the steps."""

    parent: Model
    recovery: Recovery
    sources: Sources
    steps: int
    seed: int
    progress: Progress

    def __call__(self, model: Model, step: int, masks: Masks) -> Model:
        """The model after the recovery that belongs to this step, counted from 0; masked weights stay zero.

        Raises:
            InvalidInput: data that was not given, or a training that diverged.
        """
        if statistics := self.recovery.batch_norm:
            data = self.sources.of(statistics.data, "batch-norm")
            with self.progress.step("normalisation statistics", None):
                model = recalibrated_batchnorm(self.parent, model, statistics, data, self.seed)
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
            return trained(self.parent, model, training, data, masks=masks, seed=self.seed + step, part=part, tick=tick)
