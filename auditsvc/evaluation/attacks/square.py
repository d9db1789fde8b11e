"""Square: a black-box search that uses the model's answers only, never a gradient.

It detects gradient masking: an image that Square breaks and gradient attacks do not shows that their gradients were
misleading.  Every image draws its own squares from its own seed; the authors' code draws one place per batch.

Reference: M. Andriushchenko et al. (2020), "Square Attack: a query-efficient black-box adversarial attack via
random search", arXiv:1912.00049.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.evaluation.attacks.target import Ball, Outputs, TargetModel, length, margin
from auditsvc.evaluation.perturbations.noise_bank import side_of, squares
from auditsvc.evaluation.randomness import uniform
from auditsvc.tasks import Task

_SCHEDULE = ((10, 1), (50, 2), (200, 4), (500, 8), (1000, 16), (2000, 32), (4000, 64), (6000, 128), (8000, 256))
_AHEAD = 64
"""Draws made at once; which numbers an image gets does not depend on it."""


def area_share(query: int, queries: int, first: float) -> float:
    """The share of the image that the square covers at this query: it falls as the search goes on."""
    scaled = query * 10_000 // queries
    return first / next((divisor for until, divisor in _SCHEDULE if scaled <= until), 512)


@dataclass
class _Search:
    """The unbroken images; every field has one entry for each."""

    places: Tensor
    originals: Tensor
    targets: Tensor
    seeds: Tensor
    best: Tensor
    height: Tensor
    opening: Tensor

    def keep(self, standing: Tensor) -> _Search:
        """The search without the broken images."""
        return _Search(*(getattr(self, name)[standing] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Square:
    """Random search with squares on the margin between the classes.

    With ``patience`` the search for an image ends, at a tenth, a fifth and two fifths of the queries, where what
    is missing is more than ``patience`` times what was won: each part of the search wins less than the one before.
    """

    task: Task
    ball: Ball
    queries: int = 5000
    first: float = 0.8
    patience: float | None = None
    stream: int = 80

    def __call__(self, outputs: Outputs, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        """For each image the first query that breaks it, or the best one."""
        with torch.inference_mode():
            return self._searched(TargetModel(outputs, self.task), images, targets, seeds).clone()

    def _searched(self, target: TargetModel, images: Tensor, targets: Tensor, seeds: Tensor) -> Tensor:
        result = images.clone()
        places = torch.nonzero(target.standing(target.ask(images), targets)).flatten()
        if not len(places):
            return result
        start = self._stripes(images[places], seeds[places])
        low = torch.full((len(places),), -torch.inf, device=images.device)
        state = _Search(places, images[places], targets[places], seeds[places], start, low, low)
        state = self._ask(target, result, state, start)
        state.opening = state.height
        checkpoints = {self.queries // 10, self.queries // 5, 2 * self.queries // 5} if self.patience else set()
        draws = torch.empty(0)
        for query in range(self.queries):
            if query in checkpoints:
                result[state.places] = state.best
                hopeless = -state.height > (self.patience or 0.0) * (state.height - state.opening)
                state = state.keep(~hopeless)
            if not len(state.places):
                return result
            turn = query % _AHEAD
            if turn == 0 or len(draws) != len(state.places):
                draws = uniform(state.seeds, (_AHEAD, 4 + images.shape[1]), self.stream + 1 + query // _AHEAD)
            state = self._ask(target, result, state, self._moved(state, draws[:, turn], query))
        result[state.places] = state.best
        return result

    def _ask(self, target: TargetModel, result: Tensor, state: _Search, tried: Tensor) -> _Search:
        """One query for each image; keep improvements, drop broken images."""
        answers = target.ask(tried)
        heights = margin(self.task, answers, state.targets)
        better = heights > state.height
        state.best = torch.where(better[:, None, None, None], tried, state.best)
        state.height = torch.where(better, heights, state.height)
        standing = target.standing(answers, state.targets)
        if standing.all():
            return state
        result[state.places[~standing]] = tried[~standing]
        return state.keep(standing)

    def _stripes(self, originals: Tensor, seeds: Tensor) -> Tensor:
        """The start: vertical stripes of the radius in L-infinity, a random sign for every tile in L2."""
        channels, height, width = originals.shape[1:]
        if self.ball.norm == "Linf":
            sign = 2 * (uniform(seeds, (channels, 1, width), self.stream) < 0.5).float() - 1
            return (originals + self.ball.radius * sign).clamp_(0, 1)
        tiles = 2 * (uniform(seeds, (channels, 5, 5), self.stream) < 0.5).float() - 1
        rows = torch.arange(height, device=seeds.device) * 5 // height
        columns = torch.arange(width, device=seeds.device) * 5 // width
        sign = tiles[:, :, rows][:, :, :, columns]
        return self.ball.project(originals + self.ball.radius * sign / length(sign), originals)

    def _moved(self, state: _Search, draw: Tensor, query: int) -> Tensor:
        """One square of each image pushed to the edge of the ball (Linf), or paid for by another square (L2)."""
        channels, height, width = state.originals.shape[1:]
        side = min(side_of(area_share(query, self.queries, self.first), height, width), height, width)
        inside = squares(draw[:, 0], draw[:, 1], side, height, width)
        sign = 2 * (draw[:, 4 : 4 + channels] < 0.5).float()[:, :, None, None] - 1
        if self.ball.norm == "Linf":
            return self.ball.project(state.best + 2 * self.ball.radius * sign * inside, state.originals)
        change = state.best - state.originals
        payer = squares(draw[:, 2], draw[:, 3], side, height, width)
        freed = self.ball.radius**2 - (change * ~(inside | payer)).flatten(1).square().sum(1)
        fresh = inside * (sign + change / length(change * inside) * side)
        fresh = fresh / length(fresh) * freed.clamp(min=0).sqrt()[:, None, None, None]
        return self.ball.project(state.originals + change * ~(inside | payer) + fresh, state.originals)
