"""Channel selection: the least important channel groups, as many as the target needs.

A *channel step* removes the next few units of one set of coupled channels, so that the rest is a multiple of
``round_to``.  All steps are in order of importance, least first; bisection finds how many to apply, and the last few
are chosen one by one so that the target is met within 2 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.pruning.channel_removal import RemovedChannels, merge_removals
from auditsvc.pruning.dependency_graph import Coupled
from auditsvc.pruning.plan import Channels

TOLERANCE = 0.02
"""A target is met within 2 %."""

MAX_TRIES = 400


@dataclass(frozen=True)
class PruningStep:
    """After this step ``units`` units in all are removed from the set of coupled channels with index ``place``."""

    place: int
    units: int
    score: float


@dataclass(frozen=True)
class PruningSteps:
    """All steps, least important first; those of one set of coupled channels in their order."""

    coupled: tuple[Coupled, ...]
    orders: tuple[Tensor, ...]
    steps: tuple[PruningStep, ...]

    def removals(self, taken: Sequence[PruningStep]) -> RemovedChannels:
        """What to remove when these steps are taken."""
        most: dict[int, int] = {}
        for step in taken:
            most[step.place] = max(step.units, most.get(step.place, 0))
        return merge_removals(
            *(self.coupled[place].removals(self.orders[place][:units]) for place, units in most.items())
        )


def pruning_steps_of(coupled: Sequence[Coupled], scores: Sequence[Tensor], targets: Channels) -> PruningSteps:
    """The steps for these importance scores, one ``(units,)`` tensor for each set of coupled channels."""
    orders = tuple(torch.argsort(score, stable=True) for score in scores)
    steps: list[PruningStep] = []
    for place, (item, score, order) in enumerate(zip(coupled, scores, orders, strict=True)):
        start = 0
        for end in _ends(item, targets):
            mean = float(score[order[start:end]].mean())
            steps.append(PruningStep(place, end, mean if targets.everywhere else end / item.units))
            start = end
    ranked = sorted(steps, key=lambda step: (step.score, step.place, step.units))
    return PruningSteps(tuple(coupled), orders, tuple(ranked))


def _ends(coupled: Coupled, targets: Channels) -> list[int]:
    """After how many removed units the kept channels are a multiple of ``round_to`` and enough are left."""
    least = max(1, math.ceil((1 - targets.most) * coupled.units))
    return [
        coupled.units - kept
        for kept in range(coupled.units - 1, least - 1, -1)
        if kept * coupled.parts % targets.round_to == 0
    ]


def choose(
    steps: PruningSteps, cost: Callable[[RemovedChannels], float], target: float, excluded: Sequence[str]
) -> RemovedChannels:
    """What to remove so that ``cost`` is ``target`` within 2 %.

    Raises:
        InvalidInput: these steps can't meet the target; the message gives the nearest cost and a remedy.
    """
    taken = _prefix(steps, cost, target)
    reached = cost(steps.removals(taken))
    if reached > target * (1 + TOLERANCE):
        raise InvalidInput(
            f"the target is out of reach: {reached:.4g} is the lowest possible cost, the target is {target:.4g}. "
            "Choose a smaller target, lower round_to, or raise most",
            [f"not pruned: {reason}" for reason in excluded],
        )
    return steps.removals(_refine(steps, cost, target, taken))


def _prefix(steps: PruningSteps, cost: Callable[[RemovedChannels], float], target: float) -> list[PruningStep]:
    """The shortest run of steps from the start that brings the cost to the target or below."""
    low, high = 0, len(steps.steps)
    while low < high:
        middle = (low + high) // 2
        if cost(steps.removals(steps.steps[:middle])) <= target:
            high = middle
        else:
            low = middle + 1
    return list(steps.steps[:low])


def _refine(
    steps: PruningSteps, cost: Callable[[RemovedChannels], float], target: float, taken: list[PruningStep]
) -> list[PruningStep]:
    """The run of steps, with its last ones exchanged for others where that comes nearer to the target.

    The last step may be far too large.  It is undone, and later steps that do not overshoot are applied instead, the
    least important first; when none is left, one more is undone.
    """
    best = (abs(cost(steps.removals(taken)) / target - 1), taken)
    tries = 0
    for back in range(1, len(taken) + 1):
        if best[0] <= TOLERANCE or tries > MAX_TRIES:
            break
        chosen, skipped = list(taken[:-back]), {taken[-back].place}
        for step in steps.steps[len(taken) - back + 1 :]:
            if step.place in skipped:
                continue
            reached = cost(steps.removals([*chosen, step]))
            tries += 1
            if reached < target * (1 - TOLERANCE):
                skipped.add(step.place)
                continue
            chosen.append(step)
            best = min(best, (abs(reached / target - 1), list(chosen)), key=lambda pair: pair[0])
            if best[0] <= TOLERANCE or tries > MAX_TRIES:
                break
    if best[0] > TOLERANCE:
        raise InvalidInput(
            f"the target can't be met within {TOLERANCE:.0%}: the nearest is off by {best[0]:.1%}. Lower round_to"
        )
    return best[1]
