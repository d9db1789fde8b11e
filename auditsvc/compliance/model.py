"""The one report model: plain data that holds everything any rendering prints.

HTML, PDF, JSON, CSV and the rest are made from a ``Report`` and from nothing else, so they can't disagree.
Each number carries its interval, the images behind it and the digest of its evidence.
"""

from __future__ import annotations

import datetime
from functools import cached_property
from typing import Literal

from auditsvc.compliance.figures import Counts, Fact, Standing
from auditsvc.compliance.framework import Status
from auditsvc.compliance.human import Risk
from auditsvc.compliance.parts import Curve, EvidenceRow, FlipCount, Lineage, MarkPart, Picture, RulePart, SliceTable
from auditsvc.compliance.states import Assessment
from auditsvc.compliance.views import Example, ExemplarsPart, FrontierPoint, RateRow, Reliability, SuggestedPart, Triage
from auditsvc.records import Digest, Moment, Outcome, Severity, Value, VerificationVerdict, canonical_json


class Subject(Value):
    """What the report is about."""

    model: str
    version: str
    task: str
    architecture: str
    candidate: Digest
    parent: Digest
    intended_use: str
    not_for: str


class Signature(Value):
    """A named person's consent, or that it was given for a waiver."""

    person: str
    at: Moment
    comment: str
    record: Digest


class WaiverPart(Value):
    """One rule that a named person took upon themselves, until a day."""

    rule: str
    person: str
    reason: str
    until: datetime.date
    at: Moment
    expired: bool
    record: Digest


class DecisionPart(Value):
    """What was decided, under which policy, and who stands behind it."""

    headline: str
    explanation: str
    outcome: Outcome
    record: Digest
    policy: str
    policy_version: int
    policy_record: Digest
    policy_why: str
    policy_at: Moment | None
    at: Moment
    submitter: str
    approvals: tuple[Signature, ...]
    approvals_needed: int
    released: Moment | None
    release_record: Digest | None
    conditions: tuple[str, ...]
    notes: tuple[str, ...]


class Sentence(Value):
    """One sentence for a reader, with the evidence behind its numbers."""

    text: str
    evidence: tuple[Digest, ...] = ()


class OpenItem(Value):
    """One rule that is not settled, and where; ``owner`` and ``until`` are empty where nobody took it."""

    rule: str
    standing: Standing
    severity: Severity
    where: tuple[str, ...]
    words: str
    owner: str
    until: datetime.date | None


class Summary(Value):
    """Page 1."""

    sentences: tuple[Sentence, ...]
    not_tested: tuple[str, ...]
    counts: Counts
    open_items: tuple[OpenItem, ...]
    evidence_expires: datetime.date | None


class VerificationStep(Value):
    """One step of a verification."""

    step: str
    code: str
    held: bool
    detail: str


class VerificationPart(Value):
    """What an outsider found when checking the release."""

    verdict: VerificationVerdict
    as_of: Moment
    steps: tuple[VerificationStep, ...]
    notes: tuple[str, ...]


class StatusCount(Value):
    """How many requirements stand at one status."""

    status: Status
    rows: int


class LawDates(Value):
    """From when one part of a law applies; where readings differ, all of them and why."""

    part: str
    dates: tuple[Fact, ...]
    disputed: str


class FrameworkPart(Value):
    """One framework: how many rows stand how, and all of them.

    ``counts`` holds the rows in scope and due, ``aside`` the others; they are never added up to a share.
    ``by_whom`` says how many rows a test can show alone, with documents, or not at all.
    """

    framework: str
    name: str
    short: str
    version: str
    standing: str
    data_checked: datetime.date
    stale: bool
    headline: str
    counts: tuple[StatusCount, ...]
    aside: tuple[StatusCount, ...]
    by_whom: str
    dates: tuple[LawDates, ...]
    groups: tuple[Fact, ...]
    rows: tuple[Assessment, ...]


class Paper(Value):
    """A document, a set of answers or a plan that a named person stands behind."""

    kind: str
    title: str
    person: str
    reviewer: str
    at: Moment
    expires: datetime.date | None
    expired: bool
    record: Digest


class ChangeRow(Value):
    """One figure in the previous report and in this one."""

    label: str
    before: str
    after: str


class Report(Value):
    """Everything that any rendering prints about one decision."""

    format: Literal["auditsvc-report/1"] = "auditsvc-report/1"
    at: Moment
    tool: str
    subject: Subject
    decision: DecisionPart
    summary: Summary
    slices: tuple[SliceTable, ...]
    rules: tuple[RulePart, ...]
    curves: tuple[Curve, ...]
    flips: tuple[FlipCount, ...]
    triage: Triage
    suggested: SuggestedPart | None
    exemplars: ExemplarsPart | None
    pictures: tuple[Picture, ...]
    examples: tuple[Example, ...]
    rates: tuple[RateRow, ...]
    reliability: Reliability | None
    frontier: tuple[FrontierPoint, ...]
    related: tuple[Fact, ...]
    lineage: Lineage
    watermark: MarkPart | None
    evidence: tuple[EvidenceRow, ...]
    waivers: tuple[WaiverPart, ...]
    risk: Risk
    law: tuple[str, ...]
    frameworks: tuple[FrameworkPart, ...]
    papers: tuple[Paper, ...]
    changes: tuple[ChangeRow, ...]
    verification: VerificationPart | None
    where: tuple[Fact, ...]
    glossary: tuple[Fact, ...]

    @cached_property
    def as_json(self) -> bytes:
        """The whole report as canonical JSON, written once: it is a form of its own and lies inside the PDF."""
        return canonical_json(self.model_dump(mode="json"))
