"""The smallest change that turns an image's answer, searched directly instead of budget by budget.

One search gives a point of every budget's curve: an image stands at a budget below its distance.  The search
tightens the radius while the image is broken and widens it while it is not.

Reference: M. Pintor et al. (2021), "Fast Minimum-norm Adversarial Attacks through Adaptive Norm Constraints",
arXiv:2102.12827.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.evaluation.attacks.target import Norm, Outputs, TargetModel, length, margin
from auditsvc.tasks import Task

_FIRST_TURN, _LAST_TURN = 0.05, 1e-4
"""How much the radius changes in one step, at the start and at the end."""


def distance(change: Tensor, norm: Norm) -> Tensor:
    """The size of each image's change, ``(N,)``."""
    return change.flatten(1).abs().amax(dim=1) if norm == "Linf" else change.flatten(1).norm(dim=1)


@dataclass(frozen=True)
class MinimalNorm:
    """Fast minimum-norm attack; ``stride`` is the length of the first step in image units."""

    task: Task
    norm: Norm
    steps: int = 100
    stride: float = 1.0

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, _seeds: Tensor) -> Tensor:
        """For each image the nearest broken one that was found, or the image itself."""
        target = TargetModel(outputs, self.task)
        change, best = torch.zeros_like(images), torch.zeros_like(images)
        nearest = torch.full_like(images[:, 0, 0, 0], torch.inf)
        right = target.standing(target.ask(images), targets)
        radius = torch.full_like(nearest, torch.inf)
        for number in range(self.steps):
            look = target.climb(images + change, targets, None, margin)
            fallen = ~target.standing(look.answers, targets)
            size = distance(change, self.norm)
            nearer = fallen & (size < nearest)
            best = torch.where(nearer[:, None, None, None], change, best)
            nearest = torch.where(nearer, size, nearest)
            cosine = (1 + math.cos(math.pi * number / self.steps)) / 2
            turn = _LAST_TURN + (_FIRST_TURN - _LAST_TURN) * cosine
            radius = self._radius(radius, nearest, fallen, size, look.heights, look.slope, turn)
            stride = self.stride * (0.01 + 0.99 * cosine)
            change = self._inside(change + stride * look.slope / length(look.slope), radius)
            change = (images + change).clamp(0, 1) - images
        return torch.where(right[:, None, None, None], images + best, images)

    def _radius(
        self, radius: Tensor, nearest: Tensor, fallen: Tensor, size: Tensor, heights: Tensor, slope: Tensor, turn: float
    ) -> Tensor:
        """The next radius: smaller where the image is broken, larger where it stands, by a guess at first."""
        steep = slope.flatten(1).abs().sum(1) if self.norm == "Linf" else slope.flatten(1).norm(dim=1)
        guess = (size - heights.clamp(max=0) / steep.clamp(min=1e-12)) * (1 + turn)
        wider = torch.where(torch.isfinite(nearest), radius * (1 + turn), guess)
        return torch.where(fallen, torch.minimum(radius, nearest) * (1 - turn), wider)

    def _inside(self, change: Tensor, radius: Tensor) -> Tensor:
        """The change, cut to each image's radius."""
        wide = radius[:, None, None, None]
        if self.norm == "Linf":
            return torch.minimum(torch.maximum(change, -wide), wide)
        return change * (wide / length(change)).clamp(max=1)
