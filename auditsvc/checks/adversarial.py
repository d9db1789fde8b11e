"""How small a change, chosen by somebody who knows the model, turns its answer?

An undefended model falls to zero at the customary 8/255, and so does its parent, which would say nothing about
pruning: so a curve of budgets is measured, and the two models are compared at each.  Every image is attacked in
float32; an attack sees a copy of the model with its batch normalisation folded in, and what it finds counts only
if the model itself gets it wrong.  Numbers are upper bounds of what survives a stronger attack.

Each run tests its own strength on both models first: the loss must rise, a change without a bound must break
every image, a search without gradients must not do better, and the gradient must lead somewhere.  Otherwise every
reading that rests on gradients is ``Unmeasured``, because an attack that does not climb proves nothing.

Reference: A. Madry et al. (2017), arXiv:1706.06083; F. Croce and M. Hein (2020), arXiv:2003.01690; N. Carlini et
al. (2019), "On Evaluating Adversarial Robustness", arXiv:1902.06705.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Annotated

from pydantic import Field

from auditsvc.evaluation import Check, EvalContext
from auditsvc.evaluation.attacks import Ball, Budgets, Method, Norm, Patch, Spatial, beaten_by, masking_symptoms
from auditsvc.evaluation.metrics.severity_curve import Curve, curve_metrics, curve_readings
from auditsvc.evaluation.paired import ERRORS
from auditsvc.models import Model
from auditsvc.records import Reading, TaskName, Unmeasured

Budget = Annotated[float, Field(gt=0, le=64)]
Length = Annotated[float, Field(gt=0, le=64)]
Share = Annotated[float, Field(gt=0, lt=1)]
Degrees = Annotated[float, Field(gt=0, le=90)]

BLIND: frozenset[Method] = frozenset({"hopskipjump"})
"""Methods that need no gradient, so that a masked one does not make them doubtful."""

CLASSES_ONLY: frozenset[Method] = frozenset({"autoattack", "hopskipjump"})
"""Methods that need one class for each image."""

TRIED_FOR_STRENGTH = 16
"""Images on which the attack must show that it can break these models."""


class Adversarial(Check):
    """Attack each model by itself and compare what survives.

    Emits ``score.M@B``, ``parent.`` and ``drop.`` for every method ``M`` and budget ``B``: in 1/255 in the
    L-infinity ball, in image units for ``M-l2``.  ``patch@F`` repaints a square of that fraction of the area,
    ``spatial@D`` turns by up to so many degrees and shifts by up to a tenth.  With ``transfer``, ``score.transfer@B``
    is the candidate on images made against its parent, ``parent.transfer@B`` the parent on the candidate's.  With
    ``curve``, ``area.M``, ``area_loss.M`` and ``breaking.M`` (the budget at which half of the images are lost).
    ``errors_apart`` tells misses from false alarms.  ``images`` bounds how many images are attacked, drawn once from
    the seed.

    ``hopskipjump`` (of the Adversarial Robustness Toolbox) asks for answers alone and is measured also where gradients
    can't be trusted.  With ``cross_check`` the toolbox's PGD must break no more than ours on the images of the test.
    """

    id = "adversarial"
    version = 1

    budgets: Annotated[tuple[Budget, ...], Field(min_length=1)] = (0.5, 1.0)
    l2_budgets: tuple[Length, ...] = ()
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = ("pgd",)
    steps: Annotated[int, Field(ge=2, le=1000)] = 5
    restarts: Annotated[int, Field(ge=1, le=100)] = 1
    queries: Annotated[int, Field(ge=1, le=100_000)] = 5000
    patches: tuple[Share, ...] = ()
    turns: tuple[Degrees, ...] = ()
    transfer: bool = False
    curve: bool = False
    errors_apart: bool = False
    cross_check: bool = False
    images: Annotated[int, Field(ge=1)] = 256

    def conditions(self) -> tuple[str, ...]:
        """One for each method and budget: ``pgd@0.5``."""
        names = list(chain.from_iterable(names for _, _, names in self._families()))
        names += [f"patch@{fraction:g}" for fraction in self.patches]
        names += [f"spatial@{degrees:g}" for degrees in self.turns]
        return (*names, *self._transfer_names())

    def metrics(self) -> tuple[str, ...]:
        """The conditions' metrics, and the curves'."""
        more = chain.from_iterable(self._more_metrics(*family) for family in self._families())
        return (*super().metrics(), *more)

    def _more_metrics(self, method: Method, norm: Norm, names: tuple[str, ...]) -> tuple[str, ...]:
        """Beside score, parent and drop: misses and false alarms, and the curve's."""
        apart = [f"{kind}.{name}" for kind in ERRORS for name in names] if self.errors_apart else []
        return (*apart, *(curve_metrics(_family(method, norm)) if self.curve else ()))

    def faults(self, task: TaskName) -> tuple[str, ...]:
        """Turned images need turned targets, and some methods climb margins between classes."""
        faults = list(super().faults(task))
        if task != "classification":
            wrong = sorted({*self.methods} & CLASSES_ONLY) + (["turns"] if self.turns else [])
            wrong += ["cross_check"] if self.cross_check else []
            faults += [f"{self.id}: {name} is for classification, not for {task}" for name in wrong]
        return tuple(faults)

    def cost(self) -> float:
        """A step is a forward and a backward pass: about three passes for each model."""
        steps = {"fgsm": 1, "square": self.queries / 3, "autoattack": 10 * self.steps + self.queries / 3}
        steps["hopskipjump"] = 100 * self.steps
        each = [steps.get(method, self.steps * self.restarts) * len(names) for method, _, names in self._families()]
        more = 50 * len(self.patches) + 4 * len(self.turns) + self.steps * len(self._transfer_names())
        return 3.0 * (sum(each) + more)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Test the strength, then attack."""
        doubts = self._doubts(case)
        for method, norm, names in self._families():
            if not doubts or method in BLIND:
                yield from self._attacked(case, method, norm, names)
        if doubts:
            yield from self._unmeasured(case, doubts)
        else:
            yield from self._repainted_and_transferred(case)
        for degrees in self.turns:
            yield from case.compare_attacked(f"spatial@{degrees:g}", Spatial(case.task, degrees), self.images)

    def _attacked(self, case: EvalContext, method: Method, norm: Norm, names: tuple[str, ...]) -> Iterator[Reading]:
        attacks = Budgets(case.task, norm, self._radii(norm), method, self.steps, self.restarts, self.queries)
        pairs = case.pairs_attacked(names, attacks, self.images)
        for pair in pairs:
            yield from case.readings(pair, errors_apart=self.errors_apart)
        if self.curve:
            severities = tuple(sorted(self.budgets if norm == "Linf" else self.l2_budgets))
            yield from curve_readings(case, Curve(_family(method, norm), severities, pairs, 0.5, relative=True))

    def _repainted_and_transferred(self, case: EvalContext) -> Iterator[Reading]:
        for fraction in self.patches:
            yield from case.compare_attacked(f"patch@{fraction:g}", Patch(case.task, fraction), self.images)
        if self.transfer:
            attacks = Budgets(case.task, "Linf", self._radii("Linf"), "pgd", self.steps)
            for pair in case.pairs_crossed(self._transfer_names(), attacks, self.images):
                yield from case.readings(pair)

    def _families(self) -> Iterator[tuple[Method, Norm, tuple[str, ...]]]:
        """Every method in every ball, with the names of its conditions, smallest budget first."""
        for method in self.methods:
            yield method, "Linf", tuple(f"{method}@{budget:g}" for budget in sorted(self.budgets))
            if self.l2_budgets:
                yield method, "L2", tuple(f"{method}-l2@{budget:g}" for budget in sorted(self.l2_budgets))

    def _transfer_names(self) -> tuple[str, ...]:
        return tuple(f"transfer@{budget:g}" for budget in sorted(self.budgets)) if self.transfer else ()

    def _radii(self, norm: Norm) -> tuple[float, ...]:
        """The budgets in image units."""
        if norm == "Linf":
            return tuple(budget / 255 for budget in sorted(self.budgets))
        return tuple(sorted(self.l2_budgets))

    def _doubts(self, case: EvalContext) -> tuple[str, ...]:
        """Why gradient attacks can't be trusted on one of the two models."""
        ball = Ball("Linf", max(self.budgets) / 255)
        models: tuple[tuple[str, Model], ...] = (("candidate", case.candidate), ("parent", case.parent))
        found: list[str] = []
        for batch in case.batches(case.sample(min(self.images, TRIED_FOR_STRENGTH))):
            seeds = case.seeds("strength", batch)
            for name, model in models:
                reasons = masking_symptoms(model, case.task, ball, batch.images, batch.targets, seeds)
                if self.cross_check and not reasons:
                    more = beaten_by(model, case.task, ball, self.steps, batch.images, batch.targets, seeds)
                    reasons = (more,) if more else ()
                found += [f"{name}: {reason}" for reason in reasons]
        return tuple(found)

    def _unmeasured(self, case: EvalContext, doubts: tuple[str, ...]) -> Iterator[Reading]:
        outcome = Unmeasured(reason=("the attack proves nothing about these models. " + "; ".join(doubts))[:4000])
        blind = [family for family in self._families() if family[0] in BLIND]
        names = [f"spatial@{degrees:g}" for degrees in self.turns] + [name for _, _, some in blind for name in some]
        known = {f"{kind}.{name}" for kind in ("score", "parent", "drop") for name in names}
        known |= {metric for family in blind for metric in self._more_metrics(*family)}
        for metric in self.metrics():
            if metric not in known:
                for name in case.dataset.slices.names:
                    yield Reading(metric=metric, slice=name, outcome=outcome)


def _family(method: str, norm: Norm) -> str:
    return method if norm == "Linf" else f"{method}-l2"
