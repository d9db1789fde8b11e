"""Adversarial robustness: the accuracy of candidate and parent under attack, over a range of budgets.

An undefended model, pruned or not, falls to zero at the customary 8/255, so the two models are compared at several
budgets.  Each image is attacked in float32 on a copy of the model with folded batch normalisation; a success counts
only if the model itself misclassifies the result.  The scores are upper bounds: a stronger attack may lower them.

An image counts as broken if the attack on the model itself breaks it, or the one on the other model of the pair: a
pruned network that only hides its gradients falls to the images that its parent's gradients make.

Each run first verifies the attack on both models: the loss must rise, an unbounded change must break every image, a
gradient-free search must not do better, gradients must be informative, and an attack of twice the steps must not
break more than 7 % of the images beyond it.  Otherwise every reading that depends on gradients is ``Unmeasured``, and
no rule on it can be met.

Reference: A. Madry et al. (2017), arXiv:1706.06083; F. Croce and M. Hein (2020), arXiv:2003.01690; N. Carlini et
al. (2019), "On Evaluating Adversarial Robustness", arXiv:1902.06705.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from auditsvc.evaluation import Check, EvalContext
from auditsvc.evaluation.attacks import (
    Ball,
    Budgets,
    Ensemble,
    Method,
    Norm,
    Patch,
    Spatial,
    Transfer,
    beaten_by,
    left_standing,
    masking_symptoms,
)
from auditsvc.evaluation.metrics.severity_curve import Curve, curve_metrics, curve_readings
from auditsvc.evaluation.paired import error_metrics
from auditsvc.models import Model
from auditsvc.records import Condition, Family, Metric, Reading, TaskName, Unmeasured, paired_metrics

Budget = Annotated[float, Field(gt=0, le=64)]
Length = Annotated[float, Field(gt=0, le=64)]
Share = Annotated[float, Field(gt=0, lt=1)]
Degrees = Annotated[float, Field(gt=0, le=90)]

BLIND: frozenset[Method] = frozenset({"hopskipjump"})
"""Methods that need no gradient, so that a masked one does not make them doubtful."""

CLASSES_ONLY: frozenset[Method] = frozenset({"ensemble", "autoattack", "hopskipjump"})
"""Methods that need one class for each image."""

TRIED_FOR_STRENGTH, COMPARED = 16, 32
"""Images on which the attack must show that it can break these models, and those that a stronger attack tries too."""

TOO_WEAK = 0.07
"""The share of images that a stronger attack breaks beyond the check's own from which on the check proves nothing."""

_IN_A_BALL: frozenset[Method] = frozenset({"fgsm", "pgd", "apgd", "square", "ensemble", "autoattack"})

_BUDGET = "attack budget in 1/255 of the brightness range"
_METHODS: dict[Method, tuple[str, str]] = {
    "fgsm": ("One-step attack (FGSM)", "FGSM attack"),
    "pgd": ("Projected gradient descent (PGD)", "PGD attack"),
    "apgd": ("Adaptive attack (Auto-PGD)", "Auto-PGD attack"),
    "square": ("Attack without gradients (Square)", "Square attack"),
    "minimal": ("Minimum-norm attack", "minimum-norm attack"),
    "ensemble": ("Attack ensemble (PGD, Auto-PGD, Square)", "attack ensemble"),
    "autoattack": ("Attack ensemble (AutoAttack)", "AutoAttack"),
    "hopskipjump": ("Decision-based attack (HopSkipJump)", "HopSkipJump attack"),
}
_TRANSFER = Family(name="transfer", title="Transfer attack", axis=_BUDGET, words="transfer attack at {}/255")
_PATCH = Family(name="patch", title="Adversarial patch", axis="share of the image",
                words="an adversarial patch on {} %", percent=True)  # fmt: skip
_SPATIAL = Family(name="spatial", title="Rotation and translation", axis="degrees", words="rotation of up to {}°")


@dataclass(frozen=True)
class _Sweep:
    """One method in one ball at every budget."""

    method: Method
    norm: Norm
    conditions: tuple[Condition, ...]


class Adversarial(Check):
    """Attack each model by itself and compare what survives.

    Emits ``score.M@B``, ``parent.`` and ``drop.`` for every method ``M`` and budget ``B``: in 1/255 in the
    L-infinity ball, in image units for ``M-l2``.  ``patch@F`` repaints a square of that fraction of the area,
    ``spatial@D`` rotates by up to ``D`` degrees and shifts by up to a tenth.  With ``transfer``, ``score.transfer@B``
    is the candidate on images made against its parent alone, ``parent.transfer@B`` the parent on the candidate's.  With
    ``curve``, ``area.M``, ``area_loss.M`` and ``failure_severity.M`` (the budget at which half of the images are lost).
    ``errors_apart`` separates misses from false alarms.  ``images`` bounds the attacked images, drawn once from
    the seed.

    ``hopskipjump`` (of the Adversarial Robustness Toolbox) uses answers alone and is measured also where gradients
    can't be trusted.  With ``cross_check`` the toolbox's PGD must break no more than this package's on the test images.
    """

    id = "adversarial"
    version = 1
    topics = frozenset({"robust.adversarial"})

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

    def families(self) -> tuple[Family, ...]:
        """One for each method in each ball, and those of patches, turns and transfer."""
        more = ((_PATCH, self.patches), (_SPATIAL, self.turns), (_TRANSFER, self.transfer))
        return (*(_family(sweep.method, sweep.norm) for sweep in self._sweeps()), *(one for one, used in more if used))

    def conditions(self) -> tuple[Condition, ...]:
        """One for each method and budget: ``pgd@0.5``."""
        return (*chain.from_iterable(sweep.conditions for sweep in self._sweeps()), *self._patched(), *self._turned(),
                *self._transferred())  # fmt: skip

    def metrics(self) -> tuple[Metric, ...]:
        """The conditions' metrics, and the curves'."""
        return (*super().metrics(), *chain.from_iterable(self._more_metrics(sweep) for sweep in self._sweeps()))

    def _more_metrics(self, sweep: _Sweep) -> tuple[Metric, ...]:
        """Further metrics of one method: false negatives and false positives, and the curve's."""
        family = _family(sweep.method, sweep.norm)
        apart = error_metrics(sweep.conditions) if self.errors_apart else ()
        return (*apart, *(curve_metrics(family.name, family.title) if self.curve else ()))

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
        steps["ensemble"] = 3 * self.steps + self.queries / 10
        steps["hopskipjump"] = 100 * self.steps
        each = [steps.get(one.method, self.steps * self.restarts) * len(one.conditions) for one in self._sweeps()]
        more = 50 * len(self.patches) + 4 * len(self.turns) + 2 * max(self.steps, 20) * len(self._transferred())
        return 3.0 * (sum(each) + more)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Test the strength, then attack."""
        doubts = self._doubts(case)
        for sweep in self._sweeps():
            if not doubts or sweep.method in BLIND:
                yield from self._attacked(case, sweep)
        if doubts:
            yield from self._unmeasured(case, doubts)
        else:
            yield from self._repainted_and_transferred(case)
        for condition, degrees in zip(self._turned(), self.turns, strict=True):
            yield from case.compare_attacked(condition.name, Spatial(case.task, degrees), self.images)

    def _attacked(self, case: EvalContext, sweep: _Sweep) -> Iterator[Reading]:
        method, norm = sweep.method, sweep.norm
        attacks = self._budgets(case, method, norm)
        pairs = case.pairs_attacked(_names(sweep.conditions), attacks, self.images, crossed=True)
        for pair in pairs:
            yield from case.readings(pair, errors_apart=self.errors_apart)
        if self.curve:
            severities = tuple(sorted(self.budgets if norm == "Linf" else self.l2_budgets))
            yield from curve_readings(case, Curve(_family(method, norm).name, severities, pairs, 0.5, relative=True))

    def _repainted_and_transferred(self, case: EvalContext) -> Iterator[Reading]:
        for condition, fraction in zip(self._patched(), self.patches, strict=True):
            yield from case.compare_attacked(condition.name, Patch(case.task, fraction), self.images)
        if self.transfer:
            steps = max(self.steps, 20)
            attacks = [Transfer(case.task, "Linf", self._radii("Linf"), steps, momentum) for momentum in (0.0, 1.0)]
            for pair in case.pairs_crossed(_names(self._transferred()), attacks, self.images):
                yield from case.readings(pair)

    def _budgets(self, case: EvalContext, method: Method, norm: Norm) -> Budgets:
        return Budgets(case.task, norm, self._radii(norm), method, self.steps, self.restarts, self.queries)

    def _sweeps(self) -> Iterator[_Sweep]:
        """Every method in every ball, with its conditions, smallest budget first."""
        for method in self.methods:
            yield _Sweep(method, "Linf", _conditions(_family(method, "Linf"), self.budgets))
            if self.l2_budgets:
                yield _Sweep(method, "L2", _conditions(_family(method, "L2"), self.l2_budgets))

    def _patched(self) -> tuple[Condition, ...]:
        return tuple(_PATCH.condition(fraction) for fraction in self.patches)

    def _turned(self) -> tuple[Condition, ...]:
        return tuple(_SPATIAL.condition(degrees) for degrees in self.turns)

    def _transferred(self) -> tuple[Condition, ...]:
        return _conditions(_TRANSFER, self.budgets) if self.transfer else ()

    def _radii(self, norm: Norm) -> tuple[float, ...]:
        """The budgets in image units."""
        if norm == "Linf":
            return tuple(budget / 255 for budget in sorted(self.budgets))
        return tuple(sorted(self.l2_budgets))

    def _doubts(self, case: EvalContext) -> tuple[str, ...]:
        """Why gradient attacks can't be trusted on one of the two models."""
        key = f"strength|{case.parent_digest}|{case.dataset.ref.digest}|{case.seed}|{self.parameters()}"
        if key not in case.cache:
            case.cache[key] = np.array(self._weaknesses(case, case.parent), dtype=np.str_)
        return (
            *(f"candidate: {reason}" for reason in self._weaknesses(case, case.candidate)),
            *(f"parent: {reason}" for reason in case.cache[key].tolist()),
        )

    def _weaknesses(self, case: EvalContext, model: Model) -> tuple[str, ...]:
        """Why the attack proves nothing about one model; empty where nothing speaks against it."""
        model = model.layers
        ball = Ball("Linf", max(self.budgets) / 255)
        batches = list(case.batches(case.sample(min(self.images, COMPARED))))
        if not batches:
            return ()
        images, targets = (torch.cat([getattr(one, name) for one in batches]) for name in ("images", "targets"))
        seeds = torch.cat([case.seeds("strength", one) for one in batches])
        few = (images[:TRIED_FOR_STRENGTH], targets[:TRIED_FOR_STRENGTH], seeds[:TRIED_FOR_STRENGTH])
        queried = case.queried(model, images)
        reasons = masking_symptoms(model, case.task, ball, *few, queried)
        if self.cross_check and not reasons:
            reasons = tuple(filter(None, [beaten_by(model, case.task, ball, self.steps, *few)]))
        own = [self._budgets(case, method, "Linf").attack(ball) for method in self.methods if method in _IN_A_BALL]
        if own and not reasons and case.task.name == "classification":
            steps = max(2 * self.steps, 12)
            stronger = Ensemble(case.task, ball, steps, queries=5 * steps)
            share = left_standing(queried, case.task, own, stronger, images, targets, seeds)
            if share > TOO_WEAK:
                reasons = (f"a stronger attack breaks {share:.0%} more of {len(images)} images; use more steps",)
        return reasons

    def _unmeasured(self, case: EvalContext, doubts: tuple[str, ...]) -> Iterator[Reading]:
        outcome = Unmeasured(reason=("the attack proves nothing about these models. " + "; ".join(doubts))[:4000])
        blind = [sweep for sweep in self._sweeps() if sweep.method in BLIND]
        known = {*paired_metrics((*self._turned(), *chain.from_iterable(sweep.conditions for sweep in blind)))}
        known |= {metric for sweep in blind for metric in self._more_metrics(sweep)}
        for metric in self.metrics():
            if metric not in known:
                for name in case.dataset.slices.names:
                    yield Reading(metric=metric.id, slice=name, outcome=outcome)


def _conditions(family: Family, budgets: Iterable[float]) -> tuple[Condition, ...]:
    return tuple(family.condition(budget) for budget in sorted(budgets))


def _names(conditions: Iterable[Condition]) -> tuple[str, ...]:
    return tuple(condition.name for condition in conditions)


def _family(method: Method, norm: Norm) -> Family:
    """One method by its budget: in 1/255 of the brightness range, or in the Euclidean length of the change."""
    title, name = _METHODS[method]
    if norm == "Linf":
        return Family(name=method, title=title, axis=_BUDGET, words=f"{name} at {{}}/255")
    return Family(name=f"{method}-l2", title=f"{title}, L2 norm", axis="attack budget, L2 norm of the change",
                  words=f"{name} of L2 norm {{}}")  # fmt: skip
