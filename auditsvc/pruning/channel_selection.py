"""Which units go: bites of channels in order of importance, as many as the target needs.

A *bite* is the next few units of one set of coupled channels, so many that what is left is a multiple of
``round_to``.  All bites stand in one line, least important first; how many are taken is found by bisection, and the
last few are picked one by one so that the target is met within 2 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.pruning.channel_removal import Places, joined
from auditsvc.pruning.dependency_graph import Coupled
from auditsvc.pruning.plan import Channels

CLOSE = 0.02
"""A target is met within 2 %."""

MAX_PICKS = 400


@dataclass(frozen=True)
class PruningStep:
    """So many units of one set of coupled channels go (in all, not in addition) when this bite is taken."""

    place: int
    units: int
    score: float


@dataclass(frozen=True)
class PruningSteps:
    """All bites, least important first; within one set of coupled channels in their order."""

    coupled: tuple[Coupled, ...]
    orders: tuple[Tensor, ...]
    bites: tuple[PruningStep, ...]

    def places(self, taken: Sequence[PruningStep]) -> Places:
        """What to remove when these bites are taken."""
        most: dict[int, int] = {}
        for bite in taken:
            most[bite.place] = max(bite.units, most.get(bite.place, 0))
        return joined(*(self.coupled[place].places(self.orders[place][:units]) for place, units in most.items()))


def pruning_steps_of(coupled: Sequence[Coupled], scores: Sequence[Tensor], targets: Channels) -> PruningSteps:
    """The bites for these scores."""
    orders = tuple(torch.argsort(score, stable=True) for score in scores)
    bites: list[PruningStep] = []
    for place, (item, score, order) in enumerate(zip(coupled, scores, orders, strict=True)):
        start = 0
        for end in _ends(item, targets):
            mean = float(score[order[start:end]].mean())
            bites.append(PruningStep(place, end, mean if targets.everywhere else end / item.units))
            start = end
    ranked = sorted(bites, key=lambda bite: (bite.score, bite.place, bite.units))
    return PruningSteps(tuple(coupled), orders, tuple(ranked))


def _ends(coupled: Coupled, targets: Channels) -> list[int]:
    """After how many removed units the kept channels are a multiple of ``round_to`` and enough are left."""
    least = max(1, math.ceil((1 - targets.most) * coupled.units))
    return [
        coupled.units - kept
        for kept in range(coupled.units - 1, least - 1, -1)
        if kept * coupled.parts % targets.round_to == 0
    ]


def choose(menu: PruningSteps, cost: Callable[[Places], float], wanted: float, left_alone: Sequence[str]) -> Places:
    """What to remove so that ``cost`` is ``wanted`` within 2 %.

    Raises:
        InvalidInput: these bites can't meet the target; says how near they come and what would work.
    """
    taken = _prefix(menu, cost, wanted)
    reached = cost(menu.places(taken))
    if reached > wanted * (1 + CLOSE):
        raise InvalidInput(
            f"the target is out of reach: {reached:.4g} is the least that is left, {wanted:.4g} was asked for. "
            "Ask for less, lower round_to, or raise most",
            [f"left alone: {reason}" for reason in left_alone],
        )
    return menu.places(_picked(menu, cost, wanted, taken))


def _prefix(menu: PruningSteps, cost: Callable[[Places], float], wanted: float) -> list[PruningStep]:
    """The shortest run of bites from the start that brings the cost to the target or below."""
    low, high = 0, len(menu.bites)
    while low < high:
        middle = (low + high) // 2
        if cost(menu.places(menu.bites[:middle])) <= wanted:
            high = middle
        else:
            low = middle + 1
    return list(menu.bites[:low])


def _picked(
    menu: PruningSteps, cost: Callable[[Places], float], wanted: float, taken: list[PruningStep]
) -> list[PruningStep]:
    """The run of bites, with its last ones exchanged for others where that comes nearer to the target.

    The last bite may be far too big.  It is put back, and later bites that do not overshoot are taken instead, the
    least important first; when none is left, one more is put back.
    """
    best = (abs(cost(menu.places(taken)) / wanted - 1), taken)
    picks = 0
    for back in range(1, len(taken) + 1):
        if best[0] <= CLOSE or picks > MAX_PICKS:
            break
        chosen, skipped = list(taken[:-back]), {taken[-back].place}
        for bite in menu.bites[len(taken) - back + 1 :]:
            if bite.place in skipped:
                continue
            reached = cost(menu.places([*chosen, bite]))
            picks += 1
            if reached < wanted * (1 - CLOSE):
                skipped.add(bite.place)
                continue
            chosen.append(bite)
            best = min(best, (abs(reached / wanted - 1), list(chosen)), key=lambda pair: pair[0])
            if best[0] <= CLOSE or picks > MAX_PICKS:
                break
    if best[0] > CLOSE:
        raise InvalidInput(
            f"the target can't be met within {CLOSE:.0%}: the nearest is off by {best[0]:.1%}. Lower round_to"
        )
    return best[1]
