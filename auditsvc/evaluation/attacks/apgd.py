"""Auto-PGD: gradient ascent with momentum that halves its own step where it stops helping.

The schedule and the constants are the authors'.  A broken image leaves the batch, with all of its state, so an
undefended model costs a few steps and not a hundred.

Reference: F. Croce and M. Hein (2020), "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", arXiv:2003.01690.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from auditsvc.evaluation.attacks.target import Ball, Objective, Outputs, TargetModel, ranks, targeted_dlr, task_loss
from auditsvc.tasks import Task

_MOMENTUM = 0.75
_RISES = 0.75


@dataclass
class _Climb:
    """The state of the unbroken images; every field has one entry for each."""

    places: Tensor
    originals: Tensor
    targets: Tensor
    rivals: Tensor
    current: Tensor
    before: Tensor
    slope: Tensor
    height: Tensor
    best: Tensor
    best_slope: Tensor
    best_height: Tensor
    last_best: Tensor
    step: Tensor
    rises: Tensor
    halved: Tensor
    opening: Tensor

    def keep(self, standing: Tensor) -> None:
        """Drop the broken images."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[standing])


@dataclass(frozen=True)
class Apgd:
    """APGD on the task's loss (cross-entropy for classification); ``restarts`` random starts."""

    task: Task
    ball: Ball
    steps: int = 100
    restarts: int = 1
    stream: int = 40

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the iterate that breaks it, or the one of the highest loss."""
        run = _Run(
            TargetModel(outputs, self.task), self.ball, self.steps, task_loss, images, targets, seeds, images.clone()
        )
        places = torch.nonzero(run.target.standing(run.target.ask(images), targets)).flatten()
        for restart in range(self.restarts):
            if len(places):
                places = run.climb(places, targets, self.stream + restart)
        return run.result


@dataclass(frozen=True)
class TargetedApgd:
    """APGD towards each of the ``rivals`` likeliest wrong classes in turn, on the difference-of-logits ratio.

    With ``patience`` a climb stops half-way where what is missing is more than that many times what was won:
    progress slows down, so the second half would have to do better than the first.
    """

    task: Task
    ball: Ball
    steps: int = 100
    rivals: int = 9
    patience: float | None = None
    stream: int = 60

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the iterate that breaks it, or the last target's best."""
        run = _Run(
            TargetModel(outputs, self.task),
            self.ball,
            self.steps,
            targeted_dlr,
            images,
            targets,
            seeds,
            images.clone(),
            self.patience,
        )
        answers = run.target.ask(images)
        places = torch.nonzero(run.target.standing(answers, targets)).flatten()
        if not ranks(answers, targets):
            return run.result
        order = answers.scatter(1, targets[:, None], float("-inf")).argsort(dim=1, descending=True)
        for rank in range(min(self.rivals, answers.shape[1] - 1)):
            if len(places):
                places = run.climb(places, order[:, rank], self.stream + rank)
        return run.result


@dataclass(frozen=True)
class _Run:
    """Everything that one climb shares with the next; what breaks an image is written into ``result``."""

    target: TargetModel
    ball: Ball
    steps: int
    objective: Objective
    images: Tensor
    targets: Tensor
    seeds: Tensor
    result: Tensor
    patience: float | None = None

    def climb(self, places: Tensor, rivals: Tensor, stream: int) -> Tensor:
        """One climb of the images at ``places`` from a random start; returns the unbroken places."""
        state = self._opened(places, rivals, stream)
        given_up: list[Tensor] = []
        period = max(int(0.22 * self.steps), 1)
        least, shorter = max(int(0.06 * self.steps), 1), max(int(0.03 * self.steps), 1)
        since = 0
        for number in range(self.steps):
            _step(state, self.ball, 1.0 if number == 0 else _MOMENTUM)
            look = self.target.climb(state.current, state.targets, state.rivals, self.objective)
            _learn(state, look.heights, look.slope)
            self._drop(state, self.target.standing(look.answers, state.targets))
            if self.patience is not None and number + 1 == self.steps // 2:
                given_up.append(self._give_up(state))
            if not len(state.places):
                break
            since += 1
            if since == period:
                _adapt(state, period)
                period, since = max(period - shorter, least), 0
        self.result[state.places] = state.best
        return torch.cat((state.places, *given_up)).sort().values

    def _drop(self, state: _Climb, standing: Tensor) -> None:
        """Record the broken images."""
        if not standing.all():
            self.result[state.places[~standing]] = state.current[~standing]
            state.keep(standing)

    def _give_up(self, state: _Climb) -> Tensor:
        """Leave the images that are hopelessly far; returns their places."""
        won, missing = state.best_height - state.opening, -state.best_height
        hopeless = missing > (self.patience or 0.0) * won
        left = state.places[hopeless]
        self.result[left] = state.best[hopeless]
        state.keep(~hopeless)
        return left

    def _opened(self, places: Tensor, rivals: Tensor, stream: int) -> _Climb:
        """The state at a random start."""
        originals, wanted, towards = self.images[places], self.targets[places], rivals[places]
        current = self.ball.start(originals, self.seeds[places], stream, on_edge=True)
        look = self.target.climb(current, wanted, towards, self.objective)
        nothing = torch.zeros_like(look.heights)
        return _Climb(
            places=places, originals=originals, targets=wanted, rivals=towards, current=current, before=current,
            slope=look.slope, height=look.heights, best=current, best_slope=look.slope, best_height=look.heights,
            last_best=look.heights, step=nothing + 2 * self.ball.radius, rises=nothing,
            halved=torch.ones_like(nothing, dtype=torch.bool), opening=look.heights,
        )  # fmt: skip


def _step(state: _Climb, ball: Ball, share: float) -> None:
    """One step with momentum, projected before and after."""
    size = state.step[:, None, None, None]
    ahead = ball.project(state.current + size * ball.step(state.slope), state.originals)
    drift = (1 - share) * (state.current - state.before)
    moved = ball.project(state.current + share * (ahead - state.current) + drift, state.originals)
    state.before, state.current = state.current, moved


def _learn(state: _Climb, heights: Tensor, slope: Tensor) -> None:
    """Take in what the new place gave, and remember the best place so far."""
    state.rises = state.rises + (heights > state.height)
    state.height, state.slope = heights, slope
    better = heights > state.best_height
    wide = better[:, None, None, None]
    state.best = torch.where(wide, state.current, state.best)
    state.best_slope = torch.where(wide, slope, state.best_slope)
    state.best_height = torch.maximum(heights, state.best_height)


def _adapt(state: _Climb, period: int) -> None:
    """Halve the step, and go back to the best place, where too few steps rose or nothing was won."""
    idle = ~state.halved & (state.last_best >= state.best_height)
    halve = (state.rises <= period * _RISES) | idle
    wide = halve[:, None, None, None]
    state.step = torch.where(halve, state.step / 2, state.step)
    state.current = torch.where(wide, state.best, state.current)
    state.slope = torch.where(wide, state.best_slope, state.slope)
    state.halved, state.last_best = halve, state.best_height
    state.rises = torch.zeros_like(state.rises)
