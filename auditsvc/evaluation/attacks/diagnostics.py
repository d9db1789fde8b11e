"""Diagnostics of attack strength, run on a few images of every model in every run.

Uninformative gradients, nondeterministic answers, or a loss that does not rise make any model appear robust.  So an
attack must increase the loss, break every image without a bound, and do no worse than a gradient-free search.

Reference: N. Carlini et al. (2019), "On Evaluating Adversarial Robustness", arXiv:1902.06705; A. Athalye et al.
(2018), "Obfuscated Gradients Give a False Sense of Security", arXiv:1802.00420.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from auditsvc.evaluation.attacks.art import ArtPgd
from auditsvc.evaluation.attacks.pgd import MinimalNorm, Pgd
from auditsvc.evaluation.attacks.square import Square
from auditsvc.evaluation.attacks.target import Ball, Outputs, TargetModel, task_loss
from auditsvc.evaluation.context import Attack
from auditsvc.tasks import Task

STEPS, UNBOUNDED_STEPS, QUERIES = 10, 40, 50
SHORT_STEP = 0.02
_FLAT = 0.1
"""The share of images without any gradient from which on it counts as masked."""


def masking_symptoms(
    outputs: Outputs,
    task: Task,
    ball: Ball,
    images: Tensor,
    targets: Tensor,
    seeds: Tensor,
    queried: Outputs | None = None,
) -> tuple[str, ...]:
    """Why gradient attacks can't be trusted on this model, in words; empty where nothing speaks against them.

    ``queried`` is a copy that gives its answers faster.
    """
    target = TargetModel(outputs, task)
    answers = target.ask(images)
    if not torch.equal(answers, target.ask(images)):
        return ("the model answers the same image differently from call to call",)
    target = TargetModel(queried or outputs, task)
    right = target.standing(answers, targets)
    images, targets, seeds = images[right], targets[right], seeds[right]
    if not len(images):
        return ()
    found = [_flatness(target, images, targets), _climbing(target, ball, images, targets, seeds)]
    found += [_unbounded(target, ball, images, targets, seeds), _black_box(target, ball, images, targets, seeds)]
    return tuple(reason for reason in found if reason)


def _flatness(target: TargetModel, images: Tensor, targets: Tensor) -> str:
    slope = target.climb(images, targets, None, task_loss).slope
    flat = int(((slope == 0) | ~torch.isfinite(slope)).flatten(1).all(dim=1).sum())
    if flat <= _FLAT * len(images):
        return ""
    return f"the gradient is masked: it is zero everywhere on {flat} of {len(images)} images"


def _climbing(target: TargetModel, ball: Ball, images: Tensor, targets: Tensor, seeds: Tensor) -> str:
    """The loss after some steps against the loss at the random start, over images that no step broke early."""
    current = ball.start(images, seeds, stream=300)
    look = target.climb(current, targets, None, task_loss)
    opening = float(look.heights.sum())
    for _ in range(STEPS):
        current = ball.project(current + 0.25 * ball.radius * ball.step(look.slope), images)
        look = target.climb(current, targets, None, task_loss)
    return "" if float(look.heights.sum()) > opening else "the loss does not rise over the steps of the attack"


def _unbounded(target: TargetModel, ball: Ball, images: Tensor, targets: Tensor, seeds: Tensor) -> str:
    """With no bound every image must fall: to long steps, or to short ones, which robust models need.

    Long steps jump from one corner of the colour cube to the other, over the region where a robust model gives way;
    short ones walk into it, and a walk along the gradient itself has no grid at all.
    """
    whole = replace(ball, radius=1.0 if ball.norm == "Linf" else float(images[0].numel()) ** 0.5)
    left = images.shape[0]
    for attack in (
        Pgd(target.task, whole, UNBOUNDED_STEPS, restarts=2, stream=310),
        Pgd(target.task, whole, 2 * UNBOUNDED_STEPS, step=SHORT_STEP, stream=320),
        MinimalNorm(target.task, "L2", 2 * UNBOUNDED_STEPS),
    ):
        found = attack(target.outputs, images, targets, seeds)
        standing = target.standing(target.ask(found), targets)
        images, targets, seeds = images[standing], targets[standing], seeds[standing]
        if not len(images):
            return ""
    return f"{len(images)} of {left} images stand against a change without any bound"


def _black_box(target: TargetModel, ball: Ball, images: Tensor, targets: Tensor, seeds: Tensor) -> str:
    def broken(attack: Pgd | Square) -> int:
        found = attack(target.outputs, images, targets, seeds)
        return int((~target.standing(target.ask(found), targets)).sum())

    blind = broken(Square(target.task, ball, QUERIES))
    seeing = broken(Pgd(target.task, ball, STEPS)) if blind else 0
    if blind <= seeing:
        return ""
    return f"a search without gradients broke {blind} images and the gradient attack {seeing}"


def left_standing(
    outputs: Outputs,
    task: Task,
    attacks: Sequence[Attack],
    stronger: Attack,
    images: Tensor,
    targets: Tensor,
    seeds: Tensor,
) -> float:
    """The share of the images that all of ``attacks`` leave unbroken and ``stronger`` breaks: local masking."""
    target = TargetModel(outputs, task)
    places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
    for attack in attacks:
        found = attack(outputs, images[places], targets[places], seeds[places])
        places = places[target.standing(target.ask(found), targets[places])]
    found = stronger(outputs, images[places], targets[places], seeds[places])
    return int((~target.standing(target.ask(found), targets[places])).sum()) / max(len(images), 1)


def beaten_by(
    outputs: Outputs, task: Task, ball: Ball, steps: int, images: Tensor, targets: Tensor, seeds: Tensor
) -> str:
    """Why PGD here is too weak: the toolbox's, with as many steps in the same ball, broke more."""
    target = TargetModel(outputs, task)

    def broken(attack: Pgd | ArtPgd) -> int:
        found = attack(outputs, images, targets, seeds)
        return int((~target.standing(target.ask(found), targets)).sum())

    ours, theirs = broken(Pgd(task, ball, steps)), broken(ArtPgd(task, ball, steps))
    return f"the toolbox's attack left {theirs - ours} fewer images standing than ours" if theirs > ours else ""
