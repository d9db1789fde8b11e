"""Looks at an evaluation set: who asks often enough is told what he wants to hear.

A candidate that breaks a rule passes it with a chance of at most alpha.  Of twenty such candidates, judged one after
the other on the same images, one will.  So every candidate that is judged on a data set is a look at it, kept in the
ledger.  A policy may say how many ``looks`` there will be: each candidate is then judged at alpha divided by that
number, so that the chance of approving any bad one of them stays alpha (Bonferroni), and whoever comes later is
unknown until there are other images.  The candidates of a sweep are one such family.  Without ``looks`` every candidate
is judged at alpha, and its decision says what that adds up to.

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

    dataset: Digest
    model: Name
    candidate: Digest
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the data set, and by data set and model together."""
        return (self.dataset, holdout_key(self.dataset, self.model))


def holdout_key(dataset: Digest, model: str) -> str:
    """Where the looks of one model's candidates at one data set are found."""
    return f"{dataset}|{model}"


def holdout_number(candidate: Digest, looks: HoldoutUses) -> int:
    """The how-many-eth candidate this is on its images; on several data sets the largest number."""
    return max((_number(candidate, seen) for seen in looks.values()), default=1)


def _number(candidate: Digest, seen: Sequence[Digest]) -> int:
    return seen.index(candidate) + 1 if candidate in seen else len(seen) + 1


def holdout_exhausted(policy: Policy, candidate: Digest, looks: HoldoutUses) -> str:
    """Why these images can't judge this candidate any more; empty if they can."""
    number = holdout_number(candidate, looks)
    if policy.looks is None or number <= policy.looks:
        return ""
    return (
        f"this is candidate {number} to be judged on these images, and the policy's alpha is shared by {policy.looks}; "
        "judge it on other images"
    )


def holdout_note(policy: Policy, candidate: Digest, looks: HoldoutUses) -> tuple[str, ...]:
    """What the looks add up to, for a reader; nothing for the first."""
    number = holdout_number(candidate, looks)
    if number < 2 or (policy.looks is not None and number > policy.looks):
        return ()
    if policy.looks is not None:
        return (f"candidate {number} of the {policy.looks} that share alpha on these images",)
    chance = 100 * min(1.0, number * policy.alpha)
    return (
        f"candidate {number} to be judged on these images: that any of so many bad ones passes a rule has a chance of "
        f"up to {chance:.3g} %; the policy does not share alpha among looks",
    )
