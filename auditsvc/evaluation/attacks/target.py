"""The objective of an attack (loss, direction, unbroken images) and its constraint: the L-infinity or L2 ball around
the original, clipped to 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from auditsvc.evaluation.inference import Queried
from auditsvc.evaluation.randomness import normal, uniform
from auditsvc.tasks import Task

Norm = Literal["Linf", "L2"]

_TINY = 1e-12


def length(change: Tensor) -> Tensor:
    """The L2 length of each image's change, ``(N, 1, 1, 1)``."""
    sizes: Tensor = change.flatten(1).norm(dim=1).clamp(min=_TINY)
    return sizes[:, None, None, None]


@dataclass(frozen=True)
class Ball:
    """All images within ``radius`` (in image units, 0..1) of an original."""

    norm: Norm
    radius: float

    def project(self, moved: Tensor, originals: Tensor) -> Tensor:
        """The nearest image of the ball, cut to 0..1.  In L2 the cut comes last; it only shortens the change."""
        if self.norm == "Linf":
            return torch.minimum(torch.maximum(moved, originals - self.radius), originals + self.radius).clamp_(0, 1)
        change = moved - originals
        return (originals + change * (self.radius / length(change)).clamp(max=1)).clamp_(0, 1)

    def step(self, gradient: Tensor) -> Tensor:
        """The steepest direction of length one."""
        return gradient.sign() if self.norm == "Linf" else gradient / length(gradient)

    def start(self, originals: Tensor, seeds: Tensor, stream: int, *, on_edge: bool = False) -> Tensor:
        """A random image of the ball; ``on_edge`` scales it to the radius, as APGD does."""
        shape = originals.shape[1:]
        if self.norm == "Linf":
            change = 2 * uniform(seeds, shape, stream) - 1
            scale = change.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=_TINY) if on_edge else 1.0
            return (originals + self.radius * change / scale).clamp_(0, 1)
        change = normal(seeds, shape, stream)
        inner = 1.0 if on_edge else uniform(seeds, (1, 1, 1), stream + 500)
        return (originals + self.radius * inner * change / length(change)).clamp_(0, 1)


Outputs = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TargetModel:
    """A model's outputs and the task that says what is right."""

    outputs: Outputs
    task: Task

    def standing(self, answers: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` bool: images that the model still gets right, at least in part."""
        return self.task.scores(answers, targets) > 0

    def ask(self, images: Tensor) -> Tensor:
        """The outputs without a gradient."""
        outputs = self.outputs.answers if isinstance(self.outputs, Queried) else self.outputs
        with torch.no_grad():
            return outputs(images)

    def climb(self, images: Tensor, targets: Tensor, rivals: Tensor | None, objective: Objective) -> TargetView:
        """Outputs, objective and its gradient by the image, in one forward and one backward pass."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            moving = images.detach().clone().requires_grad_(True)
            answers = self.outputs(moving)
            heights = objective(self.task, answers, targets, rivals)
            (slope,) = torch.autograd.grad(heights.sum(), moving, allow_unused=True)
        slope = torch.zeros_like(moving) if slope is None else slope
        return TargetView(answers.detach(), heights.detach(), slope)


@dataclass(frozen=True)
class TargetView:
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
