"""Fast gradient sign, and projected gradient descent with restarts.

Reference: I. Goodfellow et al. (2014), arXiv:1412.6572 (FGSM); A. Madry et al. (2017), "Towards Deep Learning
Models Resistant to Adversarial Attacks", arXiv:1706.06083 (PGD).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.evaluation.attacks.target import Ball, Outputs, TargetModel, task_loss
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
        """One restart on the images at ``places``; returns the places that still stand."""
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
