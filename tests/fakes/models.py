"""Models whose answers one can predict by thought, and a data set in memory to show them."""

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
from auditsvc.tasks.classification import Classification

CLASSES = ("dark", "bright")


class SeesMeanBrightness(nn.Module):
    """``bright`` where the mean of all pixels is over ``threshold``; logits differ by twice the distance."""

    def __init__(self, threshold: float = 0.5, slope: float = 20.0) -> None:
        super().__init__()
        self.threshold, self.slope = threshold, slope

    def forward(self, images: Tensor) -> Tensor:
        over = self.slope * (images.mean(dim=(1, 2, 3)) - self.threshold)
        return torch.stack((-over, over), dim=1)


class NeverWrong(nn.Module):
    """Says ``bright`` whatever it sees: never wrong on a data set of bright images, and without a gradient."""

    def forward(self, images: Tensor) -> Tensor:
        nothing = 0 * images.mean(dim=(1, 2, 3))
        return torch.stack((nothing - 1, nothing + 1), dim=1)


class SeesOneCorner(nn.Module):
    """As SeesMeanBrightness, looking at the upper left ``size`` x ``size`` pixels only."""

    def __init__(self, size: int = 4, threshold: float = 0.5, slope: float = 20.0) -> None:
        super().__init__()
        self.size, self.inner = size, SeesMeanBrightness(threshold, slope)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images[:, :, : self.size, : self.size])
        return logits


class MaskedGradient(nn.Module):
    """SeesMeanBrightness behind a rounding to ``levels`` steps: its gradient is zero, yet it is not robust."""

    def __init__(self, levels: int = 16) -> None:
        super().__init__()
        self.levels, self.inner = levels, SeesMeanBrightness()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(torch.round(images * self.levels) / self.levels)
        return logits


class Linear(nn.Module):
    """Two classes split by a plane: ``weights`` (C, H, W) and ``bias``; every minimal attack on it is known."""

    def __init__(self, weights: Tensor, bias: float) -> None:
        super().__init__()
        self.weights, self.bias = nn.Parameter(weights), bias

    def forward(self, images: Tensor) -> Tensor:
        over = (images * self.weights).sum(dim=(1, 2, 3)) + self.bias
        return torch.stack((-over, over), dim=1)


def as_model(module: nn.Module, shape: tuple[int, int, int] = (3, 16, 16), classes: tuple[str, ...] = CLASSES) -> Model:
    """The module with a card for images of this shape ``(C, H, W)``."""
    spec = InputSpec(channels=shape[0], height=shape[1], width=shape[2])
    return Model(module, ArchitectureCard(architecture="fake", task="classification", classes=classes, input=spec))


@dataclass
class ArrayDataset:
    """A data set in memory; implements ``measuring.Dataset``."""

    images: Tensor
    targets: NDArray[np.int64]
    ref: DatasetRef
    slices: Slices
    classes: tuple[str, ...] = CLASSES

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        numbers = np.arange(len(self.targets)) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            yield Batch(self.images[part], torch.from_numpy(self.targets[part]), torch.from_numpy(part))

    def target_of(self, index: int) -> Tensor:
        return torch.as_tensor(self.targets[index])

    def name_of(self, index: int) -> str:
        return f"#{index}"

    def thumbnail(self, index: int) -> bytes:
        return b""


def array_dataset(
    images: Tensor,
    targets: NDArray[np.int64],
    columns: dict[str, list[str]] | None = None,
    classes: tuple[str, ...] = CLASSES,
) -> ArrayDataset:
    """A data set of these images ``(N, C, H, W)``, with one slice column for each entry of ``columns``."""
    columns = columns or {}
    ref = DatasetRef(
        name="in-memory", digest=digest_of(images.numpy().tobytes() + targets.tobytes()), task="classification",
        images=len(targets), slices=tuple(columns), source="made by a test", licence="CC0-1.0",
    )  # fmt: skip
    parts = tuple(column_from(name, values) for name, values in columns.items())
    return ArrayDataset(images, targets.astype(np.int64), ref, Slices(len(targets), parts), classes)


def grey_dataset(levels: list[float], shape: tuple[int, int, int] = (3, 16, 16)) -> ArrayDataset:
    """One uniform image for each level, its target by whether the level is over one half; slices by target."""
    images = torch.tensor(levels)[:, None, None, None].expand(-1, *shape).clone()
    targets = np.array([int(level > 0.5) for level in levels], np.int64)
    return array_dataset(images, targets, {"kind": [CLASSES[target] for target in targets]})


def case_of(candidate: nn.Module, parent: nn.Module, dataset: ArrayDataset, **settings: object) -> EvalContext:
    """Candidate and parent on a data set in memory, with seed 7 and alpha 0.05 unless told otherwise."""
    shape = tuple(dataset.images.shape[1:])
    given = {"seed": 7, "alpha": 0.05, **settings}
    return EvalContext(
        candidate=as_model(candidate, shape, dataset.classes), candidate_digest=digest_of(b"candidate"),
        parent=as_model(parent, shape, dataset.classes), parent_digest=digest_of(b"parent"),
        task=Classification(dataset.classes), dataset=dataset, **given,
    )  # fmt: skip
