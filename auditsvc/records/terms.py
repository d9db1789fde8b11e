"""Release terms: what binds a model before its candidates come, set by two people.

Terms name the policy by digest, the data sets by content, the slices that must be judged, who approves, which parents
are accepted, and whether a candidate must carry the watermark.  A decision under them is *binding*: it can be approved,
released, and it answers the gate.  Every other decision is a *trial*: the same judgements, without consequences.

Without terms, the person who runs an audit also chooses the policy and the data, and so the outcome.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from auditsvc.records.base import Digest, Moment, Name, Record, Text, Value
from auditsvc.records.evidence import OVERALL
from auditsvc.records.model import Candidate
from auditsvc.records.policy import Rule

WATERMARK_CHECK = "watermark"
"""The check whose rules the terms can make optional for a candidate without a mark."""


class TermsFields(Value):
    """What a proposal and the terms that follow from it have in common."""

    model: Name
    policy: Digest
    policy_name: Text
    """Name and version of the policy, for readers; the digest binds."""
    datasets: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=20)]
    """Each of them must be audited and approved before a release."""
    slices: dict[Text, Annotated[int, Field(ge=1)]] | None = None
    """Slices that must be judged, each with the least number of its images in the data set."""
    approvals: Annotated[int, Field(ge=1, le=9)]
    roles: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] | None = None
    """Who may approve in which role, as in a policy."""
    parents: tuple[Digest, ...] | None = None
    """Parents that candidates may be pruned from; None accepts every parent of the model."""
    unmarked: bool | None = None
    """True: a candidate without a watermark, pruned elsewhere, isn't blocked by the rules about the watermark."""
    reason: Text
    proposed_by: Name
    at: Moment

    @property
    def lines(self) -> tuple[str, ...]:
        """The terms in words, one line for each."""
        slices = ", ".join(f"{name} (at least {least} images)" for name, least in (self.slices or {}).items())
        roles = "; ".join(f"{role}: {' or '.join(names)}" for role, names in (self.roles or {}).items())
        found = (
            ("policy", f"{self.policy_name} ({self.policy})"),
            ("data", ", ".join(self.datasets)),
            ("required slices", slices),
            ("approvals", f"{self.approvals}{f' ({roles})' if roles else ''}"),
            ("parents", ", ".join(self.parents or ()) or f"any of {self.model}"),
            ("watermark", "not required of candidates pruned elsewhere" if self.unmarked else "as the policy says"),
        )
        return tuple(f"  {name}: {words}" for name, words in found if words)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.roles and len(self.roles) > self.approvals:
            raise ValueError(f"{len(self.roles)} roles need as many approvals; there are {self.approvals}")
        if self.slices and OVERALL in self.slices:
            raise ValueError(f"the slice {OVERALL!r} is always there; require slices of the data set")
        return self

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name."""
        return (self.model,)


class TermsProposal(TermsFields, Record):
    """A person's proposal of terms; pending until another person confirms it with ``ReleaseTerms``."""

    kind: ClassVar[str] = "terms-proposal"
    event: ClassVar[str] = "terms.proposed"


class ReleaseTerms(TermsFields, Record):
    """The terms of a model; the newest ones bind.  Proposed by one person, confirmed by another."""

    kind: ClassVar[str] = "terms"
    event: ClassVar[str] = "terms.confirmed"

    proposal: Digest
    confirmed_by: Name
    operator: Literal[True] | None = None
    """True: the operator's settings set these terms, without two people; ``proposal`` is the digest of their file."""

    @property
    def set_by(self) -> str:
        """Who set them, in words."""
        if self.operator:
            return "set by the operator's settings, without two people"
        return f"proposed by {self.proposed_by}, confirmed by {self.confirmed_by}"

    @property
    def lines(self) -> tuple[str, ...]:
        """The terms in words, one line for each."""
        return (*super().lines, f"  people: {self.set_by}")

    @model_validator(mode="after")
    def _two_people(self) -> Self:
        if self.proposed_by.casefold() == self.confirmed_by.casefold():
            raise ValueError(f"{self.proposed_by} proposed these terms and can't confirm them too")
        return self

    def objections(self, candidate: Candidate, policy: Digest, datasets: Iterable[Digest]) -> tuple[str, ...]:
        """Why a decision on this candidate, policy and data is a trial; empty if it is binding."""
        found = [*self.objections_to(policy, datasets)]
        if candidate.model != self.model:
            found.append(f"the terms are those of {self.model}")
        if self.parents and candidate.parent not in self.parents:
            found.append(f"the parent {candidate.parent[:19]} isn't one that the terms name")
        return tuple(found)

    def objections_to(self, policy: Digest, datasets: Iterable[Digest]) -> tuple[str, ...]:
        """Why this policy and data aren't those of the terms; empty if they are."""
        used = set(datasets)
        other = sorted(used - set(self.datasets))
        found = []
        if policy != self.policy:
            found.append(f"the terms name the policy {self.policy_name} ({self.policy[:19]})")
        if other:
            found.append(f"the data set {other[0][:19]} isn't one that the terms name")
        if not used:
            found.append("there is no evidence of a data set that the terms name")
        return tuple(found)

    def adapted(self, rule: Rule, candidate: Candidate) -> Rule:
        """The rule as it applies under these terms: a warning, if it is about a watermark that isn't required."""
        if self.unmarked and candidate.mark is None and rule.check == WATERMARK_CHECK:
            return rule.model_copy(update={"severity": "warn"})
        return rule
