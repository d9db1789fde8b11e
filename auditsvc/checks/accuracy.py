"""What does the candidate still get right, image by image, that its parent got right?

The first question and the least of them: overall accuracy can stand while one group falls, which is why every
number comes for every slice and beside the parent's on the same images.  Images that changed from right to
wrong are kept for people to look at.

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
