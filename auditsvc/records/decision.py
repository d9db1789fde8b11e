"""Decisions: verdicts under one policy, the findings behind them, waivers and approvals."""

from __future__ import annotations

import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Name, Record, Text, Value
from auditsvc.records.evidence import Measured, Unmeasured
from auditsvc.records.policy import Severity

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
    words: Text


class Waiver(Record):
    """A named person takes one violated or unknown rule of one candidate upon themselves, until a day."""

    kind: ClassVar[str] = "waiver"

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


class Decision(Record):
    """All judgements on one candidate under one policy digest."""

    kind: ClassVar[str] = "decision"

    candidate: Digest
    policy: Digest
    policy_name: Name
    outcome: Outcome
    judgements: tuple[Judgement, ...]
    evidence: tuple[Digest, ...]
    waivers: tuple[Digest, ...] = ()
    notes: tuple[Text, ...] | None = None
    """What a reader must know beside the judgements: waivers that were given and do not count, and why."""
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate, and by candidate and policy together."""
        return (self.candidate, f"{self.candidate}|{self.policy}")

    @property
    def findings(self) -> tuple[Judgement, ...]:
        """Every judgement other than ``met``, the blocking ones first."""
        open_ones = [judgement for judgement in self.judgements if judgement.verdict != "met"]
        return tuple(sorted(open_ones, key=_urgency))


def _urgency(judgement: Judgement) -> tuple[bool, bool, bool]:
    return (judgement.waiver is not None, judgement.severity != "block", judgement.verdict != "violated")


class Approval(Record):
    """A named person's consent to one decision digest."""

    kind: ClassVar[str] = "approval"

    decision: Digest
    candidate: Digest
    approver: Name
    comment: str = ""
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the decision."""
        return (self.decision,)
