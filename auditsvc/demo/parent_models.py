"""Train the parents of the digits case (seconds on a CPU) and the cells case (minutes), reproducibly on one machine.

``python -m auditsvc.demo.parent_models FOLDER`` trains the cells parent again; the demo uses the one in the package,
because training would take most of its time.

Reference: Z. Tian et al. (2019), "FCOS", arXiv:1904.01355 (which cell answers for which object); T.-Y. Lin et al.
(2017), "Focal Loss for Dense Object Detection", arXiv:1708.02002; H. Rezatofighi et al. (2019), "Generalized
Intersection over Union", arXiv:1902.09630.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.datasets import Batch
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.models import ArchitectureCard, InputSpec, Model, build, model_files
from auditsvc.models.devices import one_thread
from auditsvc.models.small_dense import SmallDetector
from auditsvc.records.architecture import Decoding
from auditsvc.tasks.detection import Detection

SEED, EPOCHS, BATCH, RATE, WIDTH = 20261126, 60, 16, 3e-3, 8
REACH = 6.0
"""Pixels from an object's centre within which a cell answers for it."""
POINTS = (0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5)
"""Operating points that are tried on the training images; the one with the best F1 goes into the card."""


def assigned(network: SmallDetector, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each cell whether it answers for an object, of which class, and how far its sides are in pixels."""
    boxes = targets[..., 1:5] * torch.cat((network.size, network.size))
    away = torch.cat(
        (network.centres[:, None] - boxes[:, None, :, :2], boxes[:, None, :, 2:] - network.centres[:, None]), 3
    )
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2
    near = (network.centres[:, None] - middle[:, None]).abs().amax(3) <= REACH
    fits = (away.amin(3) > 0) & near & (targets[:, None, :, 0] >= 0)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(2)[:, None].expand_as(fits)
    smallest = torch.where(fits, area, torch.inf).argmin(2)
    sides = away.gather(2, smallest[..., None, None].expand(-1, -1, 1, 4))[:, :, 0]
    return fits.any(2), targets[..., 0].long().gather(1, smallest), sides


def loss_of(network: SmallDetector, images: Tensor, targets: Tensor) -> Tensor:
    """Focal loss of the classes, and how far the boxes are from fitting."""
    raw = network.raw(images)
    answers, classes, sides = assigned(network, targets)
    wanted = functional.one_hot(classes.clamp_min(0), network.classes).float() * answers[..., None]
    sure = raw[..., 4:].sigmoid()
    weight = (1 - torch.where(wanted > 0, sure, 1 - sure)) ** 2 * torch.where(wanted > 0, 0.25, 0.75)
    each = functional.binary_cross_entropy_with_logits(raw[..., 4:], wanted, reduction="none")
    focal = (each * weight).sum() / answers.sum().clamp_min(1)
    found = raw[..., :4][answers].clamp(-4.0, 6.0).exp() * network.STRIDE
    return focal + (1 - _fit(found, sides[answers])).sum() / answers.sum().clamp_min(1)


def _fit(one: Tensor, other: Tensor) -> Tensor:
    """Generalised IoU of boxes around one point, given by their distances ``(N, 4)``."""
    shared, hull = (
        (pick(one[:, :2], other[:, :2]) + pick(one[:, 2:], other[:, 2:])).prod(1)
        for pick in (torch.minimum, torch.maximum)
    )
    whole = (one[:, :2] + one[:, 2:]).prod(1) + (other[:, :2] + other[:, 2:]).prod(1) - shared
    return shared / whole - (hull - whole) / hull


def mirrored(images: Tensor, targets: Tensor, axis: int) -> tuple[Tensor, Tensor]:
    """Images and boxes mirrored, left to right (3) or upside down (2)."""
    low, high = (1, 3) if axis == 3 else (2, 4)
    turned = targets.clone()
    turned[..., low], turned[..., high] = 1 - targets[..., high], 1 - targets[..., low]
    return images.flip(axis), turned


def trained(batch: Batch) -> SmallDetector:
    """The network after training on these images."""
    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(SEED)
        network = SmallDetector(classes=3, width=WIDTH)
        optimiser = torch.optim.AdamW(network.parameters(), RATE, weight_decay=1e-3)
        steps = EPOCHS * -(-len(batch.images) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps)
        for _ in range(EPOCHS):
            for part in torch.split(torch.randperm(len(batch.images)), BATCH):
                images, targets = batch.images[part], batch.targets[part]
                for axis in (2, 3):
                    if torch.rand(()) < 0.5:
                        images, targets = mirrored(images, targets, axis)
                images = (images * (0.8 + 0.4 * torch.rand(len(images), 1, 1, 1))).clamp(0, 1)
                optimiser.zero_grad()
                torch.autograd.backward(loss_of(network, images, targets))
                optimiser.step()
                schedule.step()
    return network.eval()


def card_of(point: float, classes: tuple[str, ...]) -> ArchitectureCard:
    """The card with this operating point."""
    return ArchitectureCard(
        architecture="small_detector",
        arguments={"classes": len(classes), "width": WIDTH},
        task="detection",
        classes=classes,
        input=InputSpec(channels=3, height=120, width=160),
        decoding=Decoding(layout="boxes", confidence=point),
    )


def main(folder: Path) -> None:
    """Train, choose the operating point, write the model folder."""
    data = DatasetReaders().open(Path(__file__).parent / "cells" / "train.yaml")
    batch = next(data.batches(data.ref.images))
    network, task = trained(batch), Detection(data.classes)

    def f1(point: float) -> float:
        with torch.inference_mode():
            return float(task.scores(Model(network, card_of(point, data.classes))(batch.images), batch.targets).mean())

    card = card_of(max(POINTS, key=f1), data.classes)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in model_files(network.state_dict(), card).items():
        (folder / name).write_bytes(content)


DIGITS_SEED, DIGITS_EPOCHS, DIGITS_BATCH, DIGITS_RATE = 20261122, 3, 64, 0.05


def trained_digits(folder: Path, description: Path) -> Path:
    """The folder of the trained parent; one that is there is used again, and none is ever half there."""
    target = folder / "digits-parent"
    if target.is_dir():
        return target
    dataset = DatasetReaders().open(description)
    batch = next(dataset.batches(dataset.ref.images))
    card = ArchitectureCard(
        architecture="small_cnn",
        task="classification",
        classes=dataset.classes,
        input=InputSpec(channels=1, height=28, width=28),
    )
    with torch.random.fork_rng(), one_thread():
        torch.manual_seed(DIGITS_SEED)
        module = _trained(build(card.architecture, card.arguments), batch)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="training-", dir=folder))
    for name, data in model_files(module.state_dict(), card).items():
        (partial / name).write_bytes(data)
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not target.is_dir():
            raise
    return target


def _trained(module: torch.nn.Module, batch: Batch) -> torch.nn.Module:
    """Three epochs of stochastic gradient descent; on one thread, because sums depend on how many share them."""
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=DIGITS_RATE, momentum=0.9, weight_decay=5e-4)
    steps = DIGITS_EPOCHS * -(-len(batch.targets) // DIGITS_BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, DIGITS_RATE, total_steps=steps)
    for _ in range(DIGITS_EPOCHS):
        for part in torch.split(torch.randperm(len(batch.targets)), DIGITS_BATCH):
            optimiser.zero_grad()
            torch.autograd.backward(functional.cross_entropy(module(batch.images[part]), batch.targets[part]))
            optimiser.step()
            schedule.step()
    return module.eval()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
