"""Decisions: verdicts under one policy, the findings behind them, waivers and approvals."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Name, Record, Text, Value, person_key
from auditsvc.records.data_card import DataUse
from auditsvc.records.evidence import Evidence, Measured, Unmeasured
from auditsvc.records.model import Candidate, Parent
from auditsvc.records.policy import Policy, Severity
from auditsvc.records.terms import ReleaseTerms, TermsFields

Verdict = Literal["met", "violated", "unknown"]
Outcome = Literal["approved", "rejected", "inconclusive"]


class Judgement(Value):
    """One rule on one metric of one slice: what was measured, what was wanted, what follows."""

    rule: Name
    metric: str
    slice: str
    verdict: Verdict
    severity: Severity
    bound: Literal["at_least", "at_most"]
    limit: float
    outcome: Annotated[Measured | Unmeasured, Field(discriminator="state")]
    evidence: Digest | None = None
    waiver: Digest | None = None
    adjusted_p: Annotated[float, Field(ge=0, le=1)] | None = None
    """For a loss: the p-value of no loss at all, after Holm's correction over the rule's family."""
    against: Digest | None = None
    """The incumbent's evidence, where the outcome is a difference from it."""
    words: Text


class Waiver(Record):
    """A named person takes one violated or unknown rule of one candidate upon themselves, until a day."""

    kind: ClassVar[str] = "waiver"
    event: ClassVar[str] = "waiver.granted"

    candidate: Digest
    policy: Digest
    rule: Name
    person: Name
    reason: Text
    until: datetime.date
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate."""
        return (self.candidate,)


class AuditedData(Value):
    """A data set that a decision is based on, and how many of its images were measured."""

    name: Text
    digest: Digest
    images: Annotated[int, Field(ge=0)]


class Decision(Record):
    """All judgements on one candidate under one policy digest."""

    kind: ClassVar[str] = "decision"
    event: ClassVar[str] = "decision.made"

    candidate: Digest
    policy: Digest
    policy_name: Name
    outcome: Outcome
    judgements: tuple[Judgement, ...]
    evidence: tuple[Digest, ...]
    waivers: tuple[Digest, ...] = ()
    incumbent: Digest | None = None
    """The candidate that was released at that time, where a rule compares with it."""
    notes: tuple[Text, ...] | None = None
    """Further notes on the decision: waivers that do not count, evaluations of the data set, rules without an
    incumbent to compare with."""
    terms: Digest | None = None
    """The terms under which it is binding; without them it is a trial, which can't be approved or released."""
    data: tuple[AuditedData, ...] | None = None
    """The data sets that the evidence is of; a record of version 0.1 has none."""
    at: Moment

    @property
    def trial(self) -> bool:
        """Whether it has no consequences: no terms bind it."""
        return self.terms is None

    def supersedes(self, other: Decision) -> bool:
        """Whether both answer the same question, so that only the newer one counts: same candidate, policy, terms and
        data.  Decisions on other data never supersede."""
        return self.candidate == other.candidate and self.asks_as(other)

    def asks_as(self, other: Decision) -> bool:
        """Whether both have the same policy, terms and data."""
        mine, theirs = ((one.policy, one.terms, *(data.digest for data in one.data or ())) for one in (self, other))
        return mine == theirs

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate, and by candidate and policy together."""
        return (self.candidate, f"{self.candidate}|{self.policy}")

    @property
    def findings(self) -> tuple[Judgement, ...]:
        """Every judgement other than ``met``, the blocking ones first."""
        open_ones = [judgement for judgement in self.judgements if judgement.verdict != "met"]
        return tuple(sorted(open_ones, key=_urgency))


class PastDecision(Value):
    """One decision on a candidate, of whatever policy and data."""

    decision: Digest
    outcome: Outcome
    policy: Digest
    policy_name: str
    data: tuple[AuditedData, ...]
    terms: Digest | None = None
    at: Moment

    @property
    def words(self) -> str:
        """The decision in one line."""
        data = ", ".join(f"{one.name} ({one.images} images, {one.digest[:19]})" for one in self.data) or "no data"
        return f"{'trial: ' if self.terms is None else ''}{self.outcome} under {self.policy_name} on {data}"


def _urgency(judgement: Judgement) -> tuple[bool, bool, bool]:
    return (judgement.waiver is not None, judgement.severity != "block", judgement.verdict != "violated")


class Approval(Record):
    """A named person's approval of one decision digest."""

    kind: ClassVar[str] = "approval"
    event: ClassVar[str] = "decision.approved"

    decision: Digest
    candidate: Digest
    approver: Name
    comment: str = ""
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the decision."""
        return (self.decision,)


@dataclass(frozen=True)
class DecisionRecords:
    """All records behind one decision on one submitted version: what a report shows and a release states."""

    model: str
    version: str
    candidate: Candidate
    parent: Parent
    policy: Policy
    decision: Decision
    evidence: tuple[Evidence, ...]
    approvals: tuple[Approval, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    submitter: str = ""
    terms: ReleaseTerms | None = None
    """The terms that bind the decision; None for a trial."""
    earlier: tuple[PastDecision, ...] = ()
    """Other decisions on the candidate until then, of whatever policy and data."""
    made_from: tuple[DataUse, ...] = ()
    """The data sets that are recorded to have made candidate and parent."""

    @property
    def consent(self) -> ReleaseTerms | Policy:
        """What says how many people approve, and in which roles."""
        return self.terms or self.policy


ObjectionState = Literal["rejected", "changes requested", "withdrawn"]


class Objection(Record):
    """A named person rejects one decision, requests changes, or withdraws an own objection, with a reason."""

    kind: ClassVar[str] = "objection"
    event: ClassVar[str] = "decision.objected"

    decision: Digest
    candidate: Digest
    person: Name
    state: ObjectionState
    reason: Text
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the decision."""
        return (self.decision,)

    @property
    def words(self) -> str:
        """Who did what."""
        done = {
            "rejected": "rejected it",
            "changes requested": "requested changes",
            "withdrawn": "withdrew an objection",
        }
        return f"{self.person} {done[self.state]}"


def missing_consent(wanted: Policy | TermsFields, approvers: Iterable[str]) -> tuple[str, ...]:
    """The approvals that the terms, or a policy, still require; empty if these people are enough.

    Every role needs a person of its own; whether that works out is a matching, and roles are few.
    """
    people = {person_key(name) for name in approvers}
    lacking = [f"{len(people)} of {wanted.approvals} people approved it"] if len(people) < wanted.approvals else []
    roles = {
        role: [name for name in names if person_key(name) in people] for role, names in (wanted.roles or {}).items()
    }
    lacking += [f"no approval as {role}" for role, names in roles.items() if not names]
    distinct = ({person_key(name) for name in chosen} for chosen in product(*roles.values()))
    if not lacking and roles and all(len(chosen) < len(roles) for chosen in distinct):
        lacking.append(f"one person can't approve in two roles ({', '.join(roles)})")
    return tuple(lacking)
