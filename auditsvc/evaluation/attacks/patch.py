"""A sticker: any colours at all, but only inside one square of each image.

The place is drawn from the image's seed, the colours are climbed.  It is made for one image and one place, so it
is stronger than a printed sticker that must work everywhere.

Reference: T. Brown et al. (2017), "Adversarial Patch", arXiv:1712.09665; D. Karmon et al. (2018), "LaVAN",
arXiv:1801.02608 (one image, one place).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.evaluation.attacks.target import Outputs, TargetModel, task_loss
from auditsvc.evaluation.randomness import uniform
from auditsvc.evaluation.shapes import side_of, squares
from auditsvc.tasks import Task


@dataclass(frozen=True)
class Patch:
    """A square of ``fraction`` of each image's area, climbed for ``steps`` steps from noise."""

    task: Task
    fraction: float
    steps: int = 50
    stream: int = 200

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the first iterate that breaks it, or the last one."""
        target = TargetModel(outputs, self.task)
        result = images.clone()
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        inside = self._squares(images, seeds)
        current = torch.where(inside, uniform(seeds, images.shape[1:], self.stream), images)[places]
        for number in range(self.steps):
            look = target.climb(current, targets[places], None, task_loss)
            standing = target.standing(look.answers, targets[places])
            result[places] = current
            places, current = places[standing], current[standing]
            if not len(places):
                return result
            size = 0.25 * (1 - number / self.steps) + 0.02
            moved = (current + size * look.slope[standing].sign()).clamp(0, 1)
            current = torch.where(inside[places], moved, current)
        result[places] = current
        return result

    def _squares(self, images: Tensor, seeds: Tensor) -> Tensor:
        """``(N, 1, H, W)`` bool, true inside each image's square."""
        height, width = images.shape[-2:]
        place = uniform(seeds, (2,), self.stream + 1)
        return squares(place[:, 0], place[:, 1], side_of(self.fraction, height, width), height, width)
