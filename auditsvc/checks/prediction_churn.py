"""Prediction churn: which answers changed, in both directions, and which class lost most.

Two models of equal accuracy may disagree on many images, so losses, gains and every changed answer, right or wrong
(churn), are counted.  Accuracy over all classes hides a class that loses, so each class is compared with itself.  The
context keeps the changed images; for one candidate they are its compression-identified exemplars (Hooker).

References: S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248;
H. Jiang et al. (2021), "Churn Reduction via Distillation", arXiv:2106.02654.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditsvc.evaluation import CLEAN, Check, EvalContext, Interval, Pair
from auditsvc.evaluation.paired import Sample, levels, losses, measured
from auditsvc.records import CLEAN_CONDITION, Condition, Measured, Metric, Reading, Unmeasured

_SHARES = (
    Metric(id="negative_flip_rate", kind="proportion", unit="%", better="lower", plannable=True,
           title="right answers that became wrong"),
    Metric(id="positive_flip_rate", kind="proportion", unit="%", better="higher", plannable=True,
           title="wrong answers that became right"),
    Metric(id="churn", kind="proportion", unit="%", better="lower", plannable=True, title="answers that changed"),
)  # fmt: skip
_WORST = Metric(
    id="drop.worst_class", kind="difference", unit="points", better="lower", role="loss",
    title="the largest loss of recall of any one class",
)  # fmt: skip

Numbers = NDArray[np.float64]


class PredictionChurn(Check):
    """Count changed answers on the images as they are.

    Emits on every slice the share of images ``lost`` (right, then wrong), ``won`` (wrong, then right) and of
    ``churn`` (any other answer), and ``drop.worst_class``: the largest loss of recall of any one class.  The
    upper end of that holds for every class; the lower end is corrected for their number (Bonferroni).
    """

    id = "prediction_churn"
    version = 1
    needs = "answers"
    topics = frozenset({"perf.delta_vs_parent", "fairness.slices"})

    def conditions(self) -> tuple[Condition, ...]:
        """One: the images untouched."""
        return (CLEAN_CONDITION,)

    def metrics(self) -> tuple[Metric, ...]:
        """Three shares and the worst class."""
        return (*_SHARES, _WORST)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One pass, shared with every other check of the unmodified images."""
        pair, slices = case.pair(CLEAN), case.dataset.slices
        events = (pair.lost, pair.won, pair.parent["answer"] != pair.candidate["answer"])
        for metric, event in zip(_SHARES, events, strict=True):
            sample = Sample(event.astype(np.int8), slices, pair.chosen)
            for name, outcome in zip(slices.names, measured(levels(sample, case.alpha), sample), strict=True):
                yield Reading(metric=metric.id, slice=name, outcome=outcome)
        yield from _worst_class(case, pair)


@dataclass(frozen=True)
class _ClassLoss:
    """The loss of recall of one class on every slice, at alpha for its upper end and less for its lower one."""

    images: Numbers
    upper: Interval
    lower: Interval


def _worst_class(case: EvalContext, pair: Pair) -> Iterator[Reading]:
    if case.task.tally_size:
        reason = f"in {case.task.name} an image has no class of its own; the task's own check measures the worst class"
        for name in case.dataset.slices.names:
            yield Reading(metric=_WORST.id, slice=name, outcome=Unmeasured(reason=reason))
        return
    by_class = {name: _class_loss(case, pair, number) for number, name in enumerate(case.dataset.classes)}
    for place, name in enumerate(case.dataset.slices.names):
        there = {which: loss for which, loss in by_class.items() if loss.images[place] > 0}
        if not there:
            yield Reading(metric=_WORST.id, slice=name, outcome=Unmeasured(reason="no image of this slice was tried"))
            continue
        which = max(there, key=lambda one: float(there[one].upper.value[place]))
        low = max(float(loss.lower.low[place]) for loss in there.values())
        high = max(float(loss.upper.high[place]) for loss in there.values())
        images = int(sum(loss.images[place] for loss in there.values()))
        value = float(there[which].upper.value[place])
        outcome = Measured(value=value, low=low, high=high, images=images, which=which)
        yield Reading(metric=_WORST.id, slice=name, outcome=outcome)


def _class_loss(case: EvalContext, pair: Pair, number: int) -> _ClassLoss:
    slices, alpha = case.dataset.slices, case.alpha
    places = np.flatnonzero(pair.parent["target"] == number)
    chosen = places if pair.chosen is None else pair.chosen[places]
    change = pair.parent["score"][places].astype(float) - pair.candidate["score"][places]
    sample = Sample(change, slices, chosen)
    corrected = alpha / len(case.dataset.classes)
    return _ClassLoss(sample.images, losses(sample, alpha), losses(sample, corrected))
