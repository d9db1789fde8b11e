"""Are the images independent, as intervals take them to be, but for the clusters that the data set declares?

Undeclared clusters are suspected from the images' names, from EXIF times and cameras, and from images that are nearly
equal (``datasets.suspicion``, ``datasets.copies``).  A suspicion leaves the reading unmeasured, so that a rule about it
is unknown: people declare the clusters, or say why there are none.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditsvc.evaluation import Check, EvalContext
from auditsvc.records import OVERALL, Measured, Metric, Reading, Unmeasured

_SUSPICIONS = Metric(
    id="undeclared_clusters", kind="count", better="lower", title="signs of clusters that the data set does not declare"
)


class Independence(Check):
    """Look for clusters that the data set does not declare.

    Emits ``undeclared_clusters`` on ``overall``: 0 where nothing suggests any, or where the owner declares the images
    independent; unmeasured otherwise.
    """

    id = "independence"
    version = 1
    needs = "answers"
    topics = frozenset({"stat.testset"})

    def metrics(self) -> tuple[Metric, ...]:
        """One."""
        return (_SUSPICIONS,)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """What is known of the images; no model runs."""
        ref = case.dataset.ref
        said = f"its owner says that the images are independent: {ref.independent}"[:200] if ref.independent else None
        outcome: Measured | Unmeasured = Measured(value=0, low=0, high=0, images=ref.images, which=said)
        if ref.suspected:
            outcome = Unmeasured(
                reason=f"{'; '.join(ref.suspected)}. Declare the column with what belongs together as `cluster` in "
                "dataset.yaml, or why the images are independent as `independent`",
                images=ref.images,
            )
        yield Reading(metric=_SUSPICIONS.id, slice=OVERALL, outcome=outcome)
