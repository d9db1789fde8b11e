"""Converts a latency target, measured once, into a repeatable recipe with a MACs target.

Time is not repeatable, so a recipe that names a latency could give another candidate tomorrow.  The latency of parent
and candidate is measured alternately in ONNX Runtime on one thread, and bisection finds the number of MACs that meets
the target within 2 %.  The resulting recipe names MACs and is repeatable bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.latency import latencies
from auditsvc.models import Model, assemble
from auditsvc.ports import NoProgress, Progress
from auditsvc.pruning.channel_selection import TOLERANCE
from auditsvc.pruning.methods import METHODS, Work
from auditsvc.pruning.plan import Channels, Recovery, sources_of, targets_of
from auditsvc.records import Recipe

RUNS, TRIALS, LARGEST = 60, 12, 64.0

Speed = Callable[[Model, Model], float]
"""How many times faster the second model is than the first."""


def concrete(
    parent: Model,
    recipe: Recipe,
    data: Dataset | Sequence[Dataset] | None = None,
    *,
    progress: Progress | None = None,
    speed: Speed | None = None,
) -> Recipe:
    """The recipe with its latency target measured and replaced by MACs; any other recipe as it is.

    Recovery does not change the shape of a model, so the trials go without it.

    Raises:
        InvalidInput: no number of MACs meets the target within 2 %; names the nearest that was measured.
        Unavailable: Torch-Pruning is not installed.
    """
    if "latency" not in recipe.targets:
        return recipe
    targets = cast(Channels, targets_of(recipe, Channels))
    _, wanted = targets.goal
    progress = progress or NoProgress()
    measured: list[tuple[float, float]] = []
    low, high = 1.0, LARGEST
    with progress.step("latency by bisection", TRIALS) as tick:
        for _ in range(TRIALS):
            factor = (low * high) ** 0.5
            try:
                model = _trial(parent, _named(recipe, factor, steps=1), data, progress)
            except InvalidInput:
                high = factor
                tick()
                continue
            measured.append((factor, (speed or measured_speed)(parent, model)))
            tick()
            if abs(measured[-1][1] / wanted - 1) <= TOLERANCE:
                return _named(recipe, factor, steps=targets.steps)
            low, high = (factor, high) if measured[-1][1] < wanted else (low, factor)
    if not measured:
        raise InvalidInput("no channels can be removed; a latency target can't be met by this method")
    nearest = min(measured, key=lambda pair: abs(pair[1] / wanted - 1))
    raise InvalidInput(
        f"{wanted:g} times faster can't be met within {TOLERANCE:.0%}; the nearest is {nearest[1]:.2f} times faster "
        f"with macs: {nearest[0]:.3f}. Ask for one of the two"
    )


def measured_speed(parent: Model, candidate: Model) -> float:
    """How many times as fast the candidate is, measured in turns."""
    spec = parent.card.input
    images = torch.rand((2, spec.channels, spec.height, spec.width), generator=torch.Generator().manual_seed(0))
    return latencies((parent, candidate), images, runs=RUNS).ratio(0, 1).value


def _named(recipe: Recipe, factor: float, *, steps: int) -> Recipe:
    others = {name: value for name, value in recipe.targets.items() if name not in ("latency", "steps")}
    kept = {"steps": float(steps)} if "steps" in recipe.targets else {}
    return recipe.model_copy(update={"targets": {**others, **kept, "macs": round(factor, 4)}})


def _trial(parent: Model, recipe: Recipe, data: Dataset | Sequence[Dataset] | None, progress: Progress) -> Model:
    work = Work(parent, recipe, Recovery(), sources_of(recipe, data), progress)
    return assemble(METHODS[recipe.method](work), parent.card)
