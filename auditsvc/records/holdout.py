"""Reuse of a holdout set: the more candidates are judged on the same images, the likelier a bad one passes by chance.

A candidate that breaks a rule passes it with a probability of at most alpha.  Of twenty such candidates, judged one
after the other on the same images, one will.  So the ledger records each evaluation of a candidate on a data set.  A
policy may limit them by ``max_evaluations``: each candidate is then judged at alpha divided by that number, so that
the probability of approving any bad one of them stays alpha (Bonferroni), and every further candidate is unknown until
there are other images.  The candidates of a sweep are one such family.  Without ``max_evaluations`` every candidate is
judged at alpha, and its decision states what that adds up to.

Reference: C. Dwork et al. (2015), "The reusable holdout: Preserving validity in adaptive data analysis",
doi:10.1126/science.aaa9375.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from auditsvc.records.base import Digest, Moment, Name, Record
from auditsvc.records.policy import Policy

HoldoutUses = Mapping[Digest, Sequence[Digest]]
"""For each data set the candidates of this model that were judged on it, in order; this one among them or next."""


class HoldoutUse(Record):
    """One candidate was judged on the images of one data set."""

    kind: ClassVar[str] = "look"
    event: ClassVar[str] = "holdout.used"

    dataset: Digest
    model: Name
    candidate: Digest
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the data set, and by data set and model together."""
        return (self.dataset, holdout_key(self.dataset, self.model))


def holdout_key(dataset: Digest, model: str) -> str:
    """The ledger subject of the evaluations of one model's candidates on one data set."""
    return f"{dataset}|{model}"


def holdout_number(candidate: Digest, looks: HoldoutUses) -> int:
    """The ordinal of this candidate among those judged on its images, from 1; the largest over several data sets."""
    return max((_number(candidate, seen) for seen in looks.values()), default=1)


def _number(candidate: Digest, seen: Sequence[Digest]) -> int:
    return seen.index(candidate) + 1 if candidate in seen else len(seen) + 1


def holdout_exhausted(policy: Policy, candidate: Digest, looks: HoldoutUses) -> str:
    """Why no more candidates may be judged on these images; empty if this one may."""
    number = holdout_number(candidate, looks)
    if policy.max_evaluations is None or number <= policy.max_evaluations:
        return ""
    return (
        f"this is candidate {number} to be judged on these images, and the policy allows max_evaluations: "
        f"{policy.max_evaluations}; judge it on other images"
    )


def holdout_note(policy: Policy, candidate: Digest, looks: HoldoutUses) -> tuple[str, ...]:
    """The multiple-testing note of a decision; empty for the first candidate on its images."""
    number = holdout_number(candidate, looks)
    if number < 2 or (policy.max_evaluations is not None and number > policy.max_evaluations):
        return ()
    if policy.max_evaluations is not None:
        return (f"candidate {number} of the {policy.max_evaluations} that share alpha on these images",)
    chance = 100 * min(1.0, number * policy.alpha)
    return (
        f"candidate {number} to be judged on these images: if all {number} were bad, one of them would pass a rule "
        f"with a probability of up to {chance:.3g} %; the policy sets no max_evaluations, so alpha is not shared",
    )
