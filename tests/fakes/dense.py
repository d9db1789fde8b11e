"""A model for boxes, pixels and texts whose answers one can predict by thought, and pictures to show it.

A picture is 16 x 16 and black, with up to four squares of 6 x 6 in its quarters, each of some brightness.  The model
sees a square if its brightness is at least ``least``, and gives it back as a box, as pixels, or as a letter.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from auditsvc.datasets import Batch, Slices, column_from
from auditsvc.evaluation import EvalContext
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.records import DatasetRef, digest_of
from auditsvc.tasks import task_named

CLASSES = {"detection": ("dark", "bright"), "segmentation": ("ground", "square"), "ocr": ("a", "b")}
CORNERS = ((1, 1), (1, 9), (9, 1), (9, 9))
SIDE = 6
BRIGHT = 0.6
"""A square of this brightness is of the second class."""


class SeesSquares(nn.Module):
    """Finds each square that is bright enough, exactly."""

    def __init__(self, least: float = 0.1) -> None:
        super().__init__()
        self.least, self.task = least, "detection"

    def forward(self, images: Tensor) -> Tensor:
        seen = torch.stack([images[:, 0, top + 2, left + 2] for top, left in CORNERS], dim=1)
        there, bright = seen >= self.least, seen >= BRIGHT
        if self.task == "segmentation":
            return torch.stack((images[:, 0] < self.least, images[:, 0] >= self.least), dim=1).float() * 8
        if self.task == "ocr":
            letters = torch.stack((there & ~bright, there & bright, ~there), dim=2).float()
            return torch.cat((letters, torch.tensor([0.0, 0.0, 1.0]).expand_as(letters)), dim=2).view(-1, 8, 3)[
                :, [0, 4, 1, 5, 2, 6, 3, 7]
            ] * 8  # fmt: skip
        boxes = torch.tensor([(left, top, left + SIDE, top + SIDE) for top, left in CORNERS]) / 16
        sure = torch.stack((there & ~bright, there & bright), dim=2).float() * 0.9
        return torch.cat((boxes.expand(len(images), -1, -1), sure), dim=2)


@dataclass
class Squares:
    """Pictures of squares with their targets; implements ``measuring.Dataset``."""

    images: Tensor
    targets: Tensor
    squares: NDArray[np.float64]
    dim: NDArray[np.bool_]
    ref: DatasetRef
    slices: Slices
    classes: tuple[str, ...]

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        numbers = np.arange(len(self.images)) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            yield Batch(self.images[part], self.targets[part], torch.from_numpy(part))

    def target_of(self, index: int) -> Tensor:
        return self.targets[index]

    def name_of(self, index: int) -> str:
        return f"#{index}"

    def index_of(self, name: str) -> int:
        return int(name.removeprefix("#"))

    def thumbnail(self, index: int) -> bytes:
        return b""


def squares_of(images: int, task: str, seed: int = 0) -> Squares:
    """So many pictures; every fourth is dim, with darker squares."""
    chance = np.random.default_rng(seed)
    dim = np.arange(images) % 4 == 0
    levels = np.round(chance.uniform(0.3, 0.9, (images, 4)) - 0.2 * dim[:, None], 2).clip(0.15, 0.9)
    levels *= chance.random((images, 4)) < 0.8
    pixels = torch.zeros(images, 1, 16, 16)
    for place, (top, left) in enumerate(CORNERS):
        pixels[:, 0, top : top + SIDE, left : left + SIDE] = torch.from_numpy(levels[:, place]).float()[:, None, None]
    model = SeesSquares()
    model.task = task
    kind = task_named(task, CLASSES[task])
    targets = kind.as_targets(model(pixels))
    ref = DatasetRef(
        name="squares", digest=digest_of(pixels.numpy().tobytes() + task.encode()), task=task, images=images,
        slices=("light",), source="made by a test", licence="CC0-1.0",
    )  # fmt: skip
    column = column_from("light", ["dim" if one else "plain" for one in dim])
    return Squares(pixels, targets, levels, dim, ref, Slices(images, (column,)), CLASSES[task])


def case_of_squares(candidate: SeesSquares, parent: SeesSquares, images: int, task: str = "detection") -> EvalContext:
    """Two models on such pictures, with seed 7 and alpha 0.05."""
    dataset, models = squares_of(images, task), []
    for module in (candidate, parent):
        module.task = task
        card = ArchitectureCard(
            architecture="fake", task=task, classes=dataset.classes, input=InputSpec(channels=1, height=16, width=16)
        )
        models.append(Model(module, card))
    return EvalContext(
        candidate=models[0], candidate_digest=digest_of(b"candidate"),
        parent=models[1], parent_digest=digest_of(b"parent"),
        task=task_named(task, dataset.classes), dataset=dataset, seed=7, alpha=0.05,
    )  # fmt: skip
