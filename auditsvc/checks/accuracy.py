"""Per-image scores of the candidate and its parent on the same images, for every slice.

Overall accuracy can hold while one group loses, so every score is reported for every slice together with the parent's.
Images whose answer changed from right to wrong are kept for inspection.

Reference: S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditsvc.evaluation import Check, EvalContext
from auditsvc.records import CLEAN_CONDITION, Condition, Reading


class Accuracy(Check):
    """Compare candidate and parent on the images as they are.

    Emits ``score.clean``, ``parent.clean`` and ``drop.clean`` on every slice.
    """

    id = "accuracy"
    version = 1
    topics = frozenset({"perf.accuracy", "perf.delta_vs_parent", "fairness.slices"})

    def conditions(self) -> tuple[Condition, ...]:
        """One: the images untouched."""
        return (CLEAN_CONDITION,)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One pass."""
        yield from case.compare("clean")
