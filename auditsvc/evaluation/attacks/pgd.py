"""Gradient attacks: FGSM, PGD with restarts, and a minimum-norm search.

The minimum-norm search tightens the radius while the image is broken and widens it otherwise.  One search gives every
point of the budget curve: an image withstands each budget below its distance.

Reference: I. Goodfellow et al. (2014), arXiv:1412.6572 (FGSM); A. Madry et al. (2017), "Towards Deep Learning
Models Resistant to Adversarial Attacks", arXiv:1706.06083 (PGD); M. Pintor et al. (2021), "Fast Minimum-norm
Adversarial Attacks through Adaptive Norm Constraints", arXiv:2102.12827.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.evaluation.attacks.target import Ball, Norm, Outputs, TargetModel, length, margin, task_loss
from auditsvc.tasks import Task


@dataclass(frozen=True)
class Fgsm:
    """One step of the full radius up the loss."""

    task: Task
    ball: Ball

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, _seeds: Tensor) -> Tensor:
        """The stepped images."""
        target = TargetModel(outputs, self.task)
        look = target.climb(images, targets, None, task_loss)
        moved = self.ball.project(images + self.ball.radius * self.ball.step(look.slope), images)
        keep = target.standing(look.answers, targets)
        return torch.where(keep[:, None, None, None], moved, images)


@dataclass(frozen=True)
class Pgd:
    """Projected gradient descent: ``restarts`` random starts, ``steps`` steps each.

    The step is half of the radius at first and falls linearly to a tenth; with ``step`` it is that share of the
    radius all the way.  An image is broken by any iterate, not by the last alone.
    """

    task: Task
    ball: Ball
    steps: int
    restarts: int = 1
    step: float | None = None
    stream: int = 3

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the first iterate that breaks it, or the last one."""
        target = TargetModel(outputs, self.task)
        result = images.clone()
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        for restart in range(self.restarts):
            if not len(places):
                break
            places = self._once(target, result, images, targets, seeds, places, restart)
        return result

    def _once(
        self,
        target: TargetModel,
        result: Tensor,
        images: Tensor,
        targets: Tensor,
        seeds: Tensor,
        places: Tensor,
        turn: int,
    ) -> Tensor:
        """One restart on the images at ``places``; returns the unbroken places."""
        originals, wanted = images[places], targets[places]
        current = self.ball.start(originals, seeds[places], self.stream + turn)
        for number in range(self.steps):
            look = target.climb(current, wanted, None, task_loss)
            standing = target.standing(look.answers, wanted)
            slope = look.slope
            if not standing.all():
                result[places[~standing]] = current[~standing]
                places, current, slope = places[standing], current[standing], slope[standing]
                originals, wanted = originals[standing], wanted[standing]
                if not len(places):
                    return places
            share = self.step if self.step is not None else 0.5 - 0.4 * number / self.steps
            current = self.ball.project(current + share * self.ball.radius * self.ball.step(slope), originals)
        result[places] = current
        return places[target.standing(target.ask(current), wanted)]


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
        """The next radius: smaller where the image is broken, larger where it is not, by an estimate at first."""
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
