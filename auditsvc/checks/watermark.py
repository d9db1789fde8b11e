"""Verifies that the candidate's files carry the owner's watermark, and measures its cost.

The watermark is embedded before the digest is taken, so it is audited like any other property: detection with the
owner's key must succeed, at a p-value that needs no calibration, and the mark must not have changed answers.  The key
is not available here: the case carries a reader that knows it.

Detection shows that the weights derive from a model with this key's watermark, not who copied it.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditsvc.datasets import Slices
from auditsvc.evaluation import Check, EvalContext, WatermarkReading
from auditsvc.evaluation.paired import Sample, levels, losses, measured
from auditsvc.records import OVERALL, Measured, Metric, Reading, Unmeasured

_METRICS = (
    Metric(id="log10_p", kind="p_value", better="lower",
           title="p-value of finding this mark in an unmarked model (as a power of ten)"),
    Metric(id="bit_accuracy", kind="proportion", unit="%", better="higher",
           title="bit accuracy: the share of payload bits that were read correctly"),
    Metric(id="flips", kind="proportion", unit="%", better="lower", plannable=True,
           title="the share of answers that the mark changed"),
    Metric(id="accuracy_cost", kind="difference", unit="points", better="lower", role="change",
           title="the accuracy that the mark cost"),
)  # fmt: skip


class Watermark(Check):
    """Read the mark of the candidate.

    Emits on ``overall``: ``log10_p`` (of finding this mark by chance; exact, so without an interval), ``bits``
    (share of payload bits that were read right), ``flips`` (share of images whose answer the mark changed) and
    ``accuracy_cost`` (the mean score that the mark cost, against the same weights without it: for classification
    accuracy).
    """

    id = "watermark"
    version = 1
    topics = frozenset({"ip.watermark"})

    def metrics(self) -> tuple[Metric, ...]:
        """The four metrics."""
        return _METRICS

    def cost(self) -> float:
        """One pass with the marked weights and one with the unmarked."""
        return 1.0

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One detection."""
        if case.read_mark is None:
            reason = "this candidate carries no mark of this installation"
            outcomes: list[Measured | Unmeasured] = [Unmeasured(reason=reason)] * len(_METRICS)
        else:
            outcomes = _outcomes(case.read_mark(), case.alpha)
        for metric, outcome in zip(_METRICS, outcomes, strict=True):
            yield Reading(metric=metric.id, slice=OVERALL, outcome=outcome)


def _outcomes(mark: WatermarkReading, alpha: float) -> list[Measured | Unmeasured]:
    def exact(value: float) -> Measured:
        return Measured(value=value, low=value, high=value, images=mark.images)

    only = Slices(mark.images, (), mark.clusters)
    flipped, change = Sample(mark.flipped, only, None), Sample(mark.change, only, None)
    flips = measured(levels(flipped, alpha), flipped)
    cost = measured(losses(change, alpha), change)
    return [exact(mark.log10_p), exact(mark.bits_matched / mark.bits_total), *flips, *cost]
