"""Several attacks in sequence on the images that remain unbroken, and one attack at several budgets.

The ensemble is AutoAttack's: APGD on cross-entropy, APGD towards the likeliest other classes, then Square.  Its
fourth member, FAB, is left out: it took two fifths of the time and broke none of the images that the others left.

Reference: F. Croce and M. Hein (2020), arXiv:2003.01690.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from auditsvc.evaluation.attacks.apgd import Apgd, TargetedApgd
from auditsvc.evaluation.attacks.art import HopSkipJump
from auditsvc.evaluation.attacks.pgd import Fgsm, MinimalNorm, Pgd, distance
from auditsvc.evaluation.attacks.square import Square
from auditsvc.evaluation.attacks.target import Ball, Norm, Outputs, TargetModel
from auditsvc.evaluation.context import Attack
from auditsvc.tasks import Task

Method = Literal["fgsm", "pgd", "apgd", "square", "minimal", "autoattack", "hopskipjump"]

CHUNK = 64
"""Images attacked at once: on a CPU larger batches leave the cache and cost more for each image."""


def on_standing(
    attack: Attack, target: TargetModel, current: Tensor, images: Tensor, targets: Tensor, seeds: Tensor, places: Tensor
) -> Tensor:
    """Attack the images at ``places``, ``CHUNK`` at a time; write into ``current``; returns the unbroken places."""
    left = []
    for part in torch.split(places, CHUNK):
        found = attack(target.outputs, images[part], targets[part], seeds[part])
        current[part] = found
        left.append(part[target.standing(target.ask(found), targets[part])])
    return torch.cat(left) if left else places


@dataclass(frozen=True)
class AutoAttack:
    """The ensemble at one budget.  ``queries`` of zero leaves Square out."""

    task: Task
    ball: Ball
    steps: int = 100
    rivals: int = 9
    queries: int = 5000
    patience: float | None = 1.0

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image what broke it, or the last attack's best."""
        target = TargetModel(outputs, self.task)
        current = images.clone()
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        stages: list[Attack] = [
            Apgd(self.task, self.ball, self.steps),
            TargetedApgd(self.task, self.ball, self.steps, self.rivals, self.patience),
        ]
        if self.queries:
            stages.append(Square(self.task, self.ball, self.queries, patience=self.patience))
        for attack in stages:
            if len(places):
                places = on_standing(attack, target, current, images, targets, seeds, places)
        return current


@dataclass(frozen=True)
class Budgets:
    """One method at every radius of ``radii``, ascending; what falls to a small one is not tried at a larger.

    ``minimal`` and ``hopskipjump`` search once, and their distances are held against every radius.
    """

    task: Task
    norm: Norm
    radii: tuple[float, ...]
    method: Method = "pgd"
    steps: int = 20
    restarts: int = 1
    queries: int = 5000

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Sequence[Tensor]:
        """For each radius the attacked images; an image that broke stays as it broke."""
        target = TargetModel(outputs, self.task)
        if self.method == "minimal":
            search: Attack = MinimalNorm(self.task, self.norm, self.steps)
            return self._by_distance(search, target, images, targets, seeds)
        if self.method == "hopskipjump":
            return self._by_distance(HopSkipJump(self.task, self.norm, self.steps), target, images, targets, seeds)
        current, versions = images.clone(), []
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        for radius in self.radii:
            if len(places):
                attack = self.attack(Ball(self.norm, radius))
                places = on_standing(attack, target, current, images, targets, seeds, places)
            versions.append(current.clone())
        return versions

    def attack(self, ball: Ball) -> Attack:
        """The method in this ball."""
        made: dict[str, Callable[[], Attack]] = {
            "fgsm": lambda: Fgsm(self.task, ball),
            "pgd": lambda: Pgd(self.task, ball, self.steps, self.restarts),
            "apgd": lambda: Apgd(self.task, ball, self.steps, self.restarts),
            "square": lambda: Square(self.task, ball, self.queries),
            "autoattack": lambda: AutoAttack(self.task, ball, self.steps, queries=self.queries),
        }
        return made[self.method]()

    def _by_distance(
        self, search: Attack, target: TargetModel, images: Tensor, targets: Tensor, seeds: Tensor
    ) -> Sequence[Tensor]:
        found = images.clone()
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        on_standing(search, target, found, images, targets, seeds, places)
        far = distance(found - images, self.norm)[:, None, None, None]
        return [torch.where(far <= radius, found, images) for radius in self.radii]
