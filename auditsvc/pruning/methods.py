"""The methods by name: each takes the work and gives weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import cast

from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.models import Model
from auditsvc.ports import Progress
from auditsvc.pruning.importance import CRITERIA, Criterion, needs_labels
from auditsvc.pruning.plan import Channels, NofM, Nothing, Recovery, Sources, Sparsity, targets_of
from auditsvc.pruning.recovery import AfterStep
from auditsvc.pruning.structured import shrink
from auditsvc.pruning.unstructured import n_of_m, sparse
from auditsvc.records import Recipe


@dataclass(frozen=True)
class Work:
    """All that a method is given."""

    parent: Model
    recipe: Recipe
    recovery: Recovery
    sources: Sources
    progress: Progress

    def after(self, steps: int) -> AfterStep:
        """The recovery, divided over this many steps."""
        return AfterStep(self.parent, self.recovery, self.sources, steps, self.recipe.seed, self.progress)


def _sparse(work: Work, *, everywhere: bool) -> dict[str, Tensor]:
    targets = cast(Sparsity, targets_of(work.recipe, Sparsity))
    return sparse(work.parent, targets.sparsity, targets.steps, work.after(targets.steps), everywhere=everywhere)


def _n_of_m(work: Work) -> dict[str, Tensor]:
    targets = cast(NofM, targets_of(work.recipe, NofM))
    return n_of_m(work.parent, targets.keep, targets.of, work.after(1))


def _structured(work: Work, *, criterion: Criterion) -> dict[str, Tensor]:
    targets = cast(Channels, targets_of(work.recipe, Channels))
    data = work.sources.of(None, f"the criterion {criterion}") if needs_labels(criterion) else None
    after = work.after(targets.steps)
    return shrink(work.parent, criterion, targets, data, work.recipe.seed, lambda model, step: after(model, step, {}))


def _nothing(work: Work) -> dict[str, Tensor]:
    targets_of(work.recipe, Nothing)
    if work.recipe.number_format is None and not work.recipe.recovery:
        raise InvalidInput("this recipe changes nothing: name a method, a number format or a recovery")
    return work.after(1)(work.parent, 0, {}).weights()


METHODS: dict[str, Callable[[Work], dict[str, Tensor]]] = {
    "magnitude-global": partial(_sparse, everywhere=True),
    "magnitude-per-layer": partial(_sparse, everywhere=False),
    "n-m": _n_of_m,
    "none": _nothing,
    **{f"structured-{criterion}": partial(_structured, criterion=criterion) for criterion in CRITERIA},
}
"""Every method that a recipe can name."""
