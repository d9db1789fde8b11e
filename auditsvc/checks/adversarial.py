"""How small a change, chosen by somebody who knows the model, turns its answer?

Projected gradient descent in the L-infinity ball.  An undefended model falls to zero at the customary 8/255,
and so does its parent, which would say nothing about pruning: so a curve of small budgets is measured, and the
two models are compared at each.  An image counts as broken if any iterate breaks it; broken images leave the
batch, so what is already lost costs nothing.  This is one attack, not an ensemble: its numbers are upper bounds
of what survives.

Each run tests its own strength: the loss must rise over the steps, or every reading is ``Unmeasured``, because
an attack that does not climb proves nothing about the model.

Reference: A. Madry et al. (2017), "Towards Deep Learning Models Resistant to Adversarial Attacks",
arXiv:1706.06083.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from auditsvc.measuring import Case, Check, uniform
from auditsvc.records import Reading, Unmeasured
from auditsvc.tasks import Task

Budget = Annotated[float, Field(gt=0, le=64)]


class Adversarial(Check):
    """Attack each model by itself with PGD and compare what survives.

    Emits ``score.pgd@B``, ``parent.`` and ``drop.`` for every budget ``B`` in 1/255; ``images`` bounds how many
    images are attacked, drawn once from the seed.
    """

    id = "adversarial"
    version = 1

    budgets: Annotated[tuple[Budget, ...], Field(min_length=1)] = (0.5, 1.0)
    steps: Annotated[int, Field(ge=2, le=1000)] = 5
    images: Annotated[int, Field(ge=1)] = 256

    def conditions(self) -> tuple[str, ...]:
        """One for each budget: ``pgd@0.5``."""
        return tuple(f"pgd@{budget:g}" for budget in self.budgets)

    def measure(self, case: Case) -> Iterator[Reading]:
        """Attack once for each budget."""
        for name, budget in zip(self.conditions(), self.budgets, strict=True):
            attack = Pgd(case.task, budget / 255, self.steps)
            readings = tuple(case.compare_attacked(name, attack, self.images))
            yield from readings if attack.climbed else _unmeasured(readings)

    def cost(self) -> float:
        """A step is a forward and a backward pass: about three passes."""
        return 3.0 * self.steps * len(self.budgets)


def _unmeasured(readings: tuple[Reading, ...]) -> Iterator[Reading]:
    reason = "the attack did not raise the loss of the images it could not break, so it says nothing about the model"
    for reading in readings:
        yield Reading(metric=reading.metric, slice=reading.slice, outcome=Unmeasured(reason=reason))


class Pgd:
    """One PGD attack in the L-infinity ball of radius ``radius`` (in image units, 0..1).

    Starts at a random point of the ball, drawn from the image's seed; the step is half of the radius at first
    and falls linearly to a tenth.  Returns, for each image, the first iterate that breaks it, or
    the last one.
    """

    def __init__(self, task: Task, radius: float, steps: int) -> None:
        self.task, self.radius, self.steps = task, radius, steps
        self.before = self.after = 0.0

    @property
    def climbed(self) -> bool:
        """Whether the summed loss of unbroken images rose from the first step to the last, or none was left."""
        return self.after > self.before or self.before == self.after == 0.0

    def __call__(self, outputs: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """``(N, C, H, W)`` in 0..1, each within the radius of its original."""
        result = images.clone()
        places = torch.nonzero(self.task.scores(outputs(images), targets) > 0).flatten()
        start = 2 * uniform(seeds[places], images.shape[1:], stream=3) - 1
        current = (images[places] + self.radius * start).clamp(0, 1)
        opening = loss = torch.zeros(0)
        for step in range(self.steps):
            loss, gradient, standing = self._look(outputs, current, targets[places])
            result[places] = current
            opening = loss if step == 0 else opening
            places, current, gradient = places[standing], current[standing], gradient[standing]
            opening, loss = opening[standing], loss[standing]
            if not len(places):
                return result
            current = self._stepped(current, gradient, images[places], step)
        result[places] = current
        self.before += float(opening.sum())
        self.after += float(loss.sum())
        return result

    def _stepped(self, current: Tensor, gradient: Tensor, originals: Tensor, step: int) -> Tensor:
        """One step up the loss, back into the ball and into 0..1."""
        size = self.radius * (0.5 - 0.4 * step / self.steps)
        moved = current + size * gradient.sign()
        moved = torch.minimum(torch.maximum(moved, originals - self.radius), originals + self.radius)
        return moved.clamp(0, 1)

    def _look(
        self, outputs: Callable[[Tensor], Tensor], current: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, its gradient by the image, and which images still stand."""
        with torch.enable_grad():
            moving = current.detach().requires_grad_(True)
            answers = outputs(moving)
            loss = self.task.loss(answers, targets)
            (gradient,) = torch.autograd.grad(loss.sum(), moving)
        return loss.detach(), gradient, self.task.scores(answers.detach(), targets) > 0
