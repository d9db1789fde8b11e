"""How an attack looks at the model: what it climbs, which way is up, and which images still stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.tasks import Task

Outputs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Victim:
    """A model's outputs and the task that says what is right."""

    outputs: Outputs
    task: Task

    def standing(self, answers: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` bool: images that the model still gets right, at least in part."""
        return self.task.scores(answers, targets) > 0

    def ask(self, images: Tensor) -> Tensor:
        """The outputs without a gradient."""
        with torch.no_grad():
            return self.outputs(images)

    def climb(self, images: Tensor, targets: Tensor, rivals: Tensor | None, objective: Objective) -> Look:
        """Outputs, objective and its gradient by the image, in one forward and one backward pass."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            moving = images.detach().clone().requires_grad_(True)
            answers = self.outputs(moving)
            heights = objective(self.task, answers, targets, rivals)
            (slope,) = torch.autograd.grad(heights.sum(), moving, allow_unused=True)
        slope = torch.zeros_like(moving) if slope is None else slope
        return Look(answers.detach(), heights.detach(), slope)


@dataclass(frozen=True)
class Look:
    """What one look gave: ``answers`` (N, classes), ``heights`` (N,), ``slope`` (N, C, H, W)."""

    answers: Tensor
    heights: Tensor
    slope: Tensor


Objective = Callable[[Task, Tensor, Tensor, Tensor | None], Tensor]
"""``(task, outputs, targets, rivals) -> (N,)``: what is climbed; larger is worse for the model."""


def task_loss(task: Task, answers: Tensor, targets: Tensor, _rivals: Tensor | None) -> Tensor:
    """The task's own loss; for classification cross-entropy."""
    return task.loss(answers, targets)


def ranks(answers: Tensor, targets: Tensor) -> bool:
    """Whether the outputs are logits of classes, so that margins between classes can be climbed."""
    return answers.dim() == 2 and targets.dim() == 1 and not targets.is_floating_point()


def margin(task: Task, answers: Tensor, targets: Tensor, _rivals: Tensor | None = None) -> Tensor:
    """The best other logit minus the target's; positive where the image is broken."""
    if not ranks(answers, targets):
        return task.loss(answers, targets)
    others = answers.scatter(1, targets[:, None], float("-inf"))
    return others.amax(dim=1) - answers.gather(1, targets[:, None])[:, 0]


def targeted_dlr(task: Task, answers: Tensor, targets: Tensor, rivals: Tensor | None) -> Tensor:
    """The difference-of-logits ratio towards ``rivals``: it does not change when all logits are scaled.

    With fewer than four classes the ratio has no denominator of its own; the spread of the logits takes its place.

    Reference: F. Croce and M. Hein (2020), "Reliable evaluation of adversarial robustness with an ensemble of
    diverse parameter-free attacks", arXiv:2003.01690, equation 7.
    """
    if rivals is None or not ranks(answers, targets):
        return task.loss(answers, targets)
    ordered = answers.topk(min(4, answers.shape[1]), dim=1).values
    below = (ordered[:, 2] + ordered[:, 3]) / 2 if answers.shape[1] >= 4 else ordered[:, -1].detach() - 1
    rise = answers.gather(1, rivals[:, None])[:, 0] - answers.gather(1, targets[:, None])[:, 0]
    return rise / (ordered[:, 0] - below + 1e-12)
