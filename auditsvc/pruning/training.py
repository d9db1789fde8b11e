"""Training after pruning: on labels, or on the parent's answers.  Whatever was pruned stays pruned.

The parent is always there, so distillation costs nothing but its forward pass, and it needs no labels when
``share`` is 1.  Weights that are zero are put back to zero after every step.

Reference: G. Hinton et al. (2015), "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from auditsvc.errors import InvalidInput
from auditsvc.measuring import Batch, Dataset
from auditsvc.models import Model
from auditsvc.ports import Tick
from auditsvc.pruning.plan import Distillation, Training
from auditsvc.tasks import task_named

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
    """Each image shifted by up to ``shift`` pixels and, if asked for, mirrored or not."""
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
    soft = task.imitation(answers, wanted, spec.temperature)
    return spec.share * soft + (1 - spec.share) * labels


def _mask(module: nn.Module, masks: Masks) -> None:
    with torch.no_grad():
        parameters = dict(module.named_parameters())
        for name, mask in masks.items():
            parameters[name].mul_(mask)
