"""Per-image scores of the candidate and its parent on the same images, for every slice.

Overall accuracy can hold while one group loses, so every score is reported for every slice together with the parent's.
Images whose answer changed from right to wrong are kept for inspection.

Reference: S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets import Slices
from auditsvc.evaluation import CLEAN, Check, EvalContext, Pair
from auditsvc.evaluation.paired import Sample, losses, measured
from auditsvc.records import CLEAN_CONDITION, OVERALL, Condition, Measured, Metric, Reading, Unmeasured
from auditsvc.records.evidence import difference

_GAP = Metric(
    id="gap_change.clean", kind="difference", unit="points", better="lower", role="change",
    title="change of the gap between this group and the rest: its loss less theirs",
)  # fmt: skip


class Accuracy(Check):
    """Compare candidate and parent on the images as they are.

    Emits ``score.clean``, ``parent.clean`` and ``drop.clean`` on every slice; and on every slice but ``overall``
    ``gap_change.clean``: its loss less that of the other groups of its column, by which the gap between them shifts
    against it.  Two groups that swap a loss for a gain shift by both.
    """

    id = "accuracy"
    version = 1
    needs = "answers"
    topics = frozenset({"perf.accuracy", "perf.delta_vs_parent", "fairness.slices"})

    def conditions(self) -> tuple[Condition, ...]:
        """One: the images untouched."""
        return (CLEAN_CONDITION,)

    def metrics(self) -> tuple[Metric, ...]:
        """The condition's metrics and the change of the gap."""
        return (*super().metrics(), _GAP)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One pass."""
        yield from case.compare("clean")
        reason = "a gap is between the groups of a column; a rule about it names slices"
        yield Reading(metric=_GAP.id, slice=OVERALL, outcome=Unmeasured(reason=reason))
        yield from _gap_changes(case.pair(CLEAN), case.dataset.slices, case.alpha)


def _gap_changes(pair: Pair, slices: Slices, alpha: float) -> Iterator[Reading]:
    """Each group against the rest of its column: images of the two are different ones, so MOVER joins the intervals."""
    change = pair.change
    for column in slices.columns:
        codes = column.codes if pair.chosen is None else column.codes[pair.chosen]
        for code, name in enumerate(column.names):
            group, rest = (_loss_of(change, places, slices, pair, alpha) for places in (
                np.flatnonzero(codes == code), np.flatnonzero((codes != code) & (codes >= 0))))  # fmt: skip
            if isinstance(group, Measured) and isinstance(rest, Measured):
                outcome: Measured | Unmeasured = difference(group, rest).model_copy(update={"images": group.images})
            else:
                reason = f"no image of {name} or of the other groups of {column.column} was tried"
                outcome = Unmeasured(reason=reason, images=group.images)
            yield Reading(metric=_GAP.id, slice=name, outcome=outcome)


def _loss_of(
    change: NDArray[np.float64], places: NDArray[np.int64], slices: Slices, pair: Pair, alpha: float
) -> Measured | Unmeasured:
    """The mean loss of the images at these places."""
    clusters = None
    if slices.clusters is not None:
        clusters = slices.clusters[places if pair.chosen is None else pair.chosen[places]]
    sample = Sample(change[places], Slices(len(places), (), clusters), None)
    return measured(losses(sample, alpha), sample)[0]
