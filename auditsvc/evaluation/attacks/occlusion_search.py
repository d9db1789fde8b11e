"""The worst place for a grey square: where it hides what the answer rests on.

Tried in the order of a gradient's guess (how much the loss would rise if the pixels turned grey), one place after
the other, until the answer turns or ``tries`` are used up.  With as many tries as there are places the search is
exhaustive and exact; with fewer it is a lower bound of the harm, and the guess finds about half of it at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.evaluation.attacks.target import Outputs, TargetModel, margin
from auditsvc.evaluation.shapes import side_of
from auditsvc.tasks import Task


@dataclass(frozen=True)
class WorstCover:
    """The worst grey square of ``fraction`` of the area, on a grid of half a side."""

    task: Task
    fraction: float
    grey: float = 0.5
    tries: int = 32

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, _seeds: Tensor) -> Tensor:
        """For each image the first cover that breaks it, or the one that hurts most."""
        target = TargetModel(outputs, self.task)
        result = images.clone()
        height, width = images.shape[-2:]
        side = min(side_of(self.fraction, height, width), height, width)
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        if not len(places):
            return result
        order, spots = self._order(target, images[places], targets[places], side)
        worst = torch.full((len(places),), -torch.inf, device=images.device)
        for number in range(min(self.tries, len(spots))):
            tried = self._covered(images[places], spots[order[:, number]], side)
            answers = target.ask(tried)
            heights = margin(self.task, answers, targets[places])
            standing = target.standing(answers, targets[places])
            better = (heights > worst) | ~standing
            result[places[better]] = tried[better]
            worst = torch.where(better, heights, worst)
            places, order, worst = places[standing], order[standing], worst[standing]
            if not len(places):
                break
        return result

    def _order(self, target: TargetModel, images: Tensor, targets: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """For each image its places, most promising first ``(N, P)``; and the places' corners ``(P, 2)``."""
        height, width = images.shape[-2:]
        stride = max(side // 2, 1)
        tops = sorted({*range(0, height - side + 1, stride), height - side})
        lefts = sorted({*range(0, width - side + 1, stride), width - side})
        spots = torch.tensor([(top, left) for top in tops for left in lefts], device=images.device)
        slope = target.climb(images, targets, None, margin).slope
        heat = (slope * (self.grey - images)).sum(dim=1, keepdim=True)
        mean = functional.avg_pool2d(heat, side, stride=1)[:, 0]
        guess = mean[:, spots[:, 0], spots[:, 1]]
        return guess.argsort(dim=1, descending=True, stable=True), spots

    def _covered(self, images: Tensor, corners: Tensor, side: int) -> Tensor:
        """The images with a grey square at each one's corner."""
        height, width = images.shape[-2:]
        rows, columns = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
        top, left = corners[:, :1], corners[:, 1:]
        tall, wide = (rows >= top) & (rows < top + side), (columns >= left) & (columns < left + side)
        inside = tall[:, None, :, None] & wide[:, None, None, :]
        return torch.where(inside, torch.full_like(images, self.grey), images)
