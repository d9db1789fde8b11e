"""A data set in memory that small networks learn in seconds: a bright bar whose place is the class."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auditsvc import pruning
from auditsvc.datasets import Batch, Slices
from auditsvc.models import Model, assemble
from auditsvc.records import DatasetRef, Recipe, digest_of
from tests.models.families import model_of


class Toy:
    """Implements ``measuring.Dataset``: ten classes, 28 x 28, noise on a bright bar whose place is the class."""

    classes = tuple("0123456789")

    def __init__(self, images: int = 200, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self._targets = torch.arange(images) % 10
        self._images = torch.rand(images, 1, 28, 28, generator=generator) * 0.5
        for number, target in enumerate(self._targets.tolist()):
            self._images[number, 0, 4 + 2 * target : 7 + 2 * target, 5:23] += 0.5
        self.slices = Slices(images, ())
        self.ref = DatasetRef(
            name="toy",
            digest=digest_of(self._images.numpy().tobytes()),
            task="classification",
            images=images,
            slices=(),
            source="made up",
            licence="none",
        )

    @property
    def images(self) -> Tensor:
        return self._images

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        numbers = np.arange(len(self._images)) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = torch.from_numpy(numbers[start : start + size])
            yield Batch(self._images[part], self._targets[part], part)

    def target_of(self, index: int) -> int:
        return int(self._targets[index])

    def name_of(self, index: int) -> str:
        return str(index)

    def thumbnail(self, index: int) -> bytes:
        return b""


def taught(data: Toy, start: Model | None = None, epochs: int = 4, rate: float = 0.01) -> Model:
    """A network, else a small one with normalisation, that has learned these images, so that recovery has an aim."""
    start = start or model_of("small_cnn", width=8)
    spec = {"fine-tune": {"epochs": epochs, "batch": 32, "rate": rate}}
    return assemble(
        pruning.prune(start, Recipe(method="none", targets={}, data=data.ref.digest, recovery=spec), data), start.card
    )
