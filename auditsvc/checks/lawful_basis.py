"""Is it stated why images of people may be used?

The owner of a data set writes ``lawful_basis`` in ``dataset.yaml``: the ground of Article 6 (and for biometric data
Article 9) of the GDPR or its like elsewhere, and where the consents are kept.  The check repeats it, so that a policy
can require it; whether it holds is for a person to judge.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditsvc.evaluation import Check, EvalContext
from auditsvc.records import OVERALL, Measured, Metric, Reading, Unmeasured

_UNSTATED = Metric(id="unstated", kind="count", better="lower", title="data sets without a stated lawful basis")


class LawfulBasis(Check):
    """Look for the stated lawful basis of the images.

    Emits ``unstated`` on ``overall``: 0 with the basis where one is stated; unmeasured otherwise.
    """

    id = "lawful_basis"
    version = 1
    needs = "answers"
    topics = frozenset({"data.consent"})

    def metrics(self) -> tuple[Metric, ...]:
        """One."""
        return (_UNSTATED,)

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """What the description says; no model runs."""
        ref = case.dataset.ref
        reason = "state the lawful basis of using these images of people as `lawful_basis` in dataset.yaml"
        outcome: Measured | Unmeasured = Unmeasured(reason=reason, images=ref.images)
        if ref.lawful_basis:
            outcome = Measured(value=0, low=0, high=0, images=ref.images, which=ref.lawful_basis[:200])
        yield Reading(metric=_UNSTATED.id, slice=OVERALL, outcome=outcome)
