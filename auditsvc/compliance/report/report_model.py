"""The report model: plain data that holds everything any rendering prints.

HTML, PDF, JSON, CSV and the other formats are rendered from a ``Report`` and from nothing else, so they cannot
disagree.  Each number carries its interval, its number of images and the digest of its evidence.
"""

from __future__ import annotations

import datetime
from functools import cached_property
from itertools import zip_longest
from typing import Any, Literal

from auditsvc.compliance.assessment.attestations import Risk
from auditsvc.compliance.assessment.framework import Status
from auditsvc.compliance.assessment.rules import Assessment
from auditsvc.compliance.report.wording import Counts, Fact, Figure, Number, RuleStatus, Unit
from auditsvc.records import Digest, Moment, Outcome, Severity, Value, Verdict, VerificationVerdict, canonical_json
from auditsvc.records.evidence import Change, Exemplar


class SliceRow(Value):
    """One slice under one condition: parent, candidate and loss."""

    slice: str
    images: int
    parent: Figure
    candidate: Figure
    loss: Figure


class SliceTable(Value):
    """All slices under one condition."""

    condition: str
    title: str
    rows: tuple[SliceRow, ...]


class RuleRow(Value):
    """One rule on one metric of one slice."""

    metric: str
    title: str
    slice: str
    verdict: Verdict
    status: RuleStatus
    severity: Severity
    measured: Figure
    bound: Literal["at_least", "at_most"]
    limit: float
    unit: Unit
    waiver: Digest | None
    adjusted_p: float | None
    message: str


class RulePart(Value):
    """One rule of the policy, its rationale, and every evaluation of it."""

    rule: str
    sentence: str
    source: str
    why: str
    severity: Severity
    counts: Counts
    rows: tuple[RuleRow, ...]


class CurvePoint(Value):
    """Both models at one severity; ``weakest`` is the lowest slice there."""

    severity: float
    condition: str
    title: str
    parent: Figure
    candidate: Figure
    loss: Figure
    weakest: str
    weakest_value: Figure


class Curve(Value):
    """Scores against the severity of a condition."""

    family: str
    topic: str
    title: str
    axis: str
    points: tuple[CurvePoint, ...]


class FlipCount(Value):
    """The number of changed answers under one condition; ``other`` is None where no check counted them."""

    condition: str
    title: str
    images: int
    regressed: int
    improved: int
    other: int | None
    evidence: Digest


class Picture(Value):
    """One image whose answer changed; ``data`` is base64 of the file."""

    image: str
    media_type: Literal["image/png", "image/jpeg"]
    data: str
    parent: str
    candidate: str
    target: str
    slices: tuple[str, ...]
    condition: str
    title: str
    change: Change
    alt: str


class Lineage(Value):
    """The parent of the candidate, its recipe and its files."""

    parent: tuple[Fact, ...]
    recipe: tuple[Fact, ...]
    candidate: tuple[Fact, ...]


class WatermarkReading(Value):
    """One reading of the watermark check."""

    metric: str
    title: str
    measured: Figure


class WatermarkPart(Value):
    """The ownership watermark: public facts and the results of the check."""

    facts: tuple[Fact, ...]
    readings: tuple[WatermarkReading, ...]
    note: str


class EvidenceRow(Value):
    """One row of the evidence index: check, data set, parameters, environment and time."""

    record: Digest
    check: str
    version: int
    topic: str
    parameters: tuple[Fact, ...]
    seed: int
    alpha: float
    dataset: str
    dataset_digest: Digest
    dataset_images: int
    dataset_source: str
    dataset_licence: str
    code: str
    environment: tuple[Fact, ...]
    started: Moment
    finished: Moment
    readings: int
    unmeasured: int
    expires: datetime.date
    expired: bool


class LossRow(Value):
    """One group with a significant loss under at least one condition, and its loss on unmodified images.

    ``adjusted_p`` is the Benjamini-Hochberg adjusted p-value.
    """

    slice: str
    condition: str
    title: str
    loss: Number
    clean: Figure
    conditions: int
    adjusted_p: float


class Triage(Value):
    """The groups with significant losses, most certain first: ``significant`` out of ``tested`` losses."""

    rows: tuple[LossRow, ...]
    significant: int
    tested: int
    false_discovery_rate: float
    message: str


class SuggestedRow(Value):
    """A group suggested by slice discovery: its loss on the search images and on the held-out images."""

    expression: str
    search_loss: Number
    held_out_loss: Number
    adjusted_p: float


class SuggestedPart(Value):
    """Groups suggested by slice discovery; ``evidence`` is the record of the search."""

    rows: tuple[SuggestedRow, ...]
    tested: int
    search_images: int
    held_out_images: int
    message: str
    evidence: Digest


class ExemplarsPart(Value):
    """The images that most seeds of the recipe change in the same way."""

    message: str
    rows: tuple[Exemplar, ...]
    seeds: int
    evidence: Digest


class RateRow(Value):
    """Selection rate, true positive rate and false positive rate of one group for both models."""

    slice: str
    candidate: tuple[Figure, Figure, Figure]
    parent: tuple[Figure, Figure, Figure]


class ConfidenceBin(Value):
    """Answers of similar confidence: mean confidence and accuracy."""

    confidence: Number
    accuracy: Number


class Reliability(Value):
    """Accuracy against confidence for both models, lowest confidence first."""

    candidate: tuple[ConfidenceBin, ...]
    parent: tuple[ConfidenceBin, ...]

    def bins(self) -> tuple[tuple[ConfidenceBin | None, ConfidenceBin | None], ...]:
        """The bins of candidate and parent in pairs; None where one has fewer."""
        return tuple(zip_longest(self.candidate, self.parent))


class FrontierPoint(Value):
    """One candidate of this parent: remaining weights and score; ``subject`` marks the one that the report is about."""

    version: str
    candidate: Digest
    recipe: str
    weights: float
    size: float
    outcome: Outcome
    subject: bool
    score: Figure
    loss: Figure


class Example(Value):
    """One test image under one condition; ``data`` is base64 of the file."""

    family: str
    severity: float
    condition: str
    title: str
    media_type: Literal["image/png", "image/jpeg"]
    data: str
    alt: str


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
    """The approval of a named person."""

    person: str
    at: Moment
    comment: str
    record: Digest


class WaiverPart(Value):
    """One rule whose risk a named person accepts until a day."""

    rule: str
    person: str
    reason: str
    until: datetime.date
    at: Moment
    expired: bool
    record: Digest


class DecisionPart(Value):
    """The decision, its policy, and the people who submitted and approved."""

    headline: str
    verdict: str = ""
    explanation: str
    next_step: str = ""
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
    """One rule that is not met, with the affected slices; ``owner`` and ``until`` are set where it is waived."""

    rule: str
    status: RuleStatus
    severity: Severity
    affected: tuple[str, ...]
    message: str
    owner: str
    until: datetime.date | None


class Summary(Value):
    """The first page."""

    sentences: tuple[Sentence, ...]
    not_tested: tuple[str, ...]
    counts: Counts
    open_items: tuple[OpenItem, ...]
    evidence_expires: datetime.date | None


class VerificationStep(Value):
    """One step of a verification."""

    step: str
    code: str
    passed: bool
    detail: str


class VerificationPart(Value):
    """The result of an offline verification of the release."""

    verdict: VerificationVerdict
    as_of: Moment
    steps: tuple[VerificationStep, ...]
    notes: tuple[str, ...]


class StatusCount(Value):
    """The number of requirements with one status."""

    status: Status
    rows: int


class ApplicationDates(Value):
    """From when one part of a law applies; where interpretations differ, all of them and why."""

    part: str
    dates: tuple[Fact, ...]
    disputed: str


class FrameworkPart(Value):
    """One framework: the number of requirements by status, and all requirements.

    ``counts`` holds the requirements that apply now, ``not_counted`` the others; they are never summed to a percentage.
    ``assessability`` says how many can be supported by tests, by tests with documents, or by people only.
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
    not_counted: tuple[StatusCount, ...]
    assessability: str
    dates: tuple[ApplicationDates, ...]
    groups: tuple[Fact, ...]
    rows: tuple[Assessment, ...]


class GapRow(Value):
    """One kind of evidence that requirements lack: from whom, how many need it, and by when."""

    title: str
    kind: str
    owner: str
    status: Status
    message: str
    requirements: tuple[str, ...]
    due: datetime.date | None = None
    """The first day on which a requirement that lacks it applies; None where one applies already."""


class StatementRow(Value):
    """A document or statement by a named person."""

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
    watermark: WatermarkPart | None
    evidence: tuple[EvidenceRow, ...]
    waivers: tuple[WaiverPart, ...]
    risk: Risk
    law: tuple[str, ...]
    frameworks: tuple[FrameworkPart, ...]
    gaps: tuple[GapRow, ...] = ()
    statements: tuple[StatementRow, ...]
    changes: tuple[ChangeRow, ...]
    verification: VerificationPart | None
    where: tuple[Fact, ...]
    glossary: tuple[Fact, ...]
    bom: dict[str, Any]
    """The CycloneDX document, the same that a release signs."""

    @cached_property
    def as_json(self) -> bytes:
        """The whole report as canonical JSON, cached because several renderings need it."""
        return canonical_json(self.model_dump(mode="json"))
