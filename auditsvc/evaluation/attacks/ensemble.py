"""Several attacks in sequence on the images that remain unbroken, and one attack at several budgets.

``AutoAttack`` is APGD on cross-entropy, APGD towards the likeliest other classes, then Square.  Its fourth member,
FAB, is left out: it took two fifths of the time and broke none of the images that the others left.

``Ensemble`` has fewer steps and starts with PGD: with 5 to 20 steps the large first step of APGD passes over what a
rippled input hides, and PGD alone is stopped by saturated logits, which the scale-free ratio of the second attack and
the queries of the third are not.

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
from auditsvc.evaluation.attacks.target import Ball, Norm, Outputs, TargetModel, margin
from auditsvc.evaluation.context import Attack
from auditsvc.tasks import Task

Method = Literal["fgsm", "pgd", "apgd", "square", "minimal", "ensemble", "autoattack", "hopskipjump"]

CHUNK = 32
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
        stages: list[Attack] = [
            Apgd(self.task, self.ball, self.steps),
            TargetedApgd(self.task, self.ball, self.steps, self.rivals, self.patience),
        ]
        if self.queries:
            stages.append(Square(self.task, self.ball, self.queries, patience=self.patience))
        return _in_sequence(stages, TargetModel(outputs, self.task), images, targets, seeds)


@dataclass(frozen=True)
class Ensemble:
    """PGD, APGD on the difference-of-logits ratio, then queries: each on what the ones before left."""

    task: Task
    ball: Ball
    steps: int = 10
    restarts: int = 1
    queries: int = 100
    rivals: int = 3

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image what broke it, or the last attack's best."""
        stages: list[Attack] = [
            Pgd(self.task, self.ball, self.steps, self.restarts),
            TargetedApgd(self.task, self.ball, self.steps, self.rivals, patience=1.0),
            Square(self.task, self.ball, self.queries, patience=1.0),
        ]
        return _in_sequence(stages, TargetModel(outputs, self.task), images, targets, seeds)


def _in_sequence(
    stages: Sequence[Attack], target: TargetModel, images: Tensor, targets: Tensor, seeds: Tensor
) -> Tensor:
    current = images.clone()
    places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
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
            "ensemble": lambda: Ensemble(self.task, ball, self.steps, self.restarts, self.queries),
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


@dataclass(frozen=True)
class Transfer:
    """Images made against a source to break another model: all steps at every radius, up the source's margin.

    Unlike the other attacks it does not stop where the source breaks, and it attacks images that the source gets
    wrong: the further into the wrong class, the more images break the other model as well.  ``momentum`` carries the
    normalised gradients of earlier steps (1.0 is MI-FGSM's), 0.0 is PGD.

    Reference: Y. Dong et al. (2018), "Boosting Adversarial Attacks with Momentum", arXiv:1710.06081; Z. Zhao et al.
    (2023), "Revisiting Transferable Adversarial Images", arXiv:2310.11850 (more steps at every budget).
    """

    task: Task
    norm: Norm
    radii: tuple[float, ...]
    steps: int = 20
    momentum: float = 0.0
    stream: int = 350

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Sequence[Tensor]:
        """For each radius the images after the last step."""
        target = TargetModel(outputs, self.task)
        return [self._climbed(target, Ball(self.norm, radius), images, targets, seeds) for radius in self.radii]

    def _climbed(self, target: TargetModel, ball: Ball, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        current = ball.start(images, seeds, self.stream)
        drift = torch.zeros_like(images)
        for number in range(self.steps):
            slope = target.climb(current, targets, None, margin).slope
            drift = self.momentum * drift + slope / slope.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12)
            share = 0.5 - 0.4 * number / self.steps
            current = ball.project(current + share * ball.radius * ball.step(drift), images)
        return current
