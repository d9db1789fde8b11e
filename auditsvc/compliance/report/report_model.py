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
from auditsvc.compliance.report.figures import Counts, Fact, Figure, Number, Standing, Unit
from auditsvc.records import Digest, Moment, Outcome, Severity, Value, Verdict, VerificationVerdict, canonical_json
from auditsvc.records.evidence import Change, Exemplar


class SliceRow(Value):
    """One slice under one condition, parent beside candidate."""

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
    standing: Standing
    severity: Severity
    measured: Figure
    bound: Literal["at_least", "at_most"]
    limit: float
    unit: Unit
    waiver: Digest | None
    adjusted_p: float | None
    words: str


class RulePart(Value):
    """One rule of the policy, why it is there, and every line that it judged."""

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
    """How a score falls as a condition gets worse."""

    family: str
    topic: str
    title: str
    axis: str
    points: tuple[CurvePoint, ...]


class FlipCount(Value):
    """How many answers changed under one condition; ``other`` is None where no check counted it."""

    condition: str
    title: str
    images: int
    broke: int
    mended: int
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
    """Where the candidate comes from and how it was made."""

    parent: tuple[Fact, ...]
    recipe: tuple[Fact, ...]
    candidate: tuple[Fact, ...]


class MarkReading(Value):
    """One reading of the watermark check."""

    metric: str
    title: str
    measured: Figure


class MarkPart(Value):
    """The ownership watermark: what is known in public, and what the check found."""

    facts: tuple[Fact, ...]
    readings: tuple[MarkReading, ...]
    note: str


class EvidenceRow(Value):
    """One line of the evidence index: what was run, on what, how, and when."""

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


class HarmRow(Value):
    """One group whose loss stands out under at least one condition: the most certain one, and the untouched images.

    ``adjusted`` is the share of chance findings to expect if the list ends here (Benjamini-Hochberg).
    """

    slice: str
    condition: str
    title: str
    loss: Number
    clean: Figure
    conditions: int
    adjusted: float


class Triage(Value):
    """The groups whose losses stand out, most certain first; ``found`` losses out of ``looked_at``."""

    rows: tuple[HarmRow, ...]
    found: int
    looked_at: int
    chance: float


class SuggestedRow(Value):
    """A group that a search suggests: its loss on the images that found it, and on those that did not."""

    expression: str
    found: Number
    held: Number
    adjusted: float


class SuggestedPart(Value):
    """Groups that nobody named; ``evidence`` is the search."""

    rows: tuple[SuggestedRow, ...]
    tried: int
    images_found: int
    images_held: int
    evidence: Digest


class ExemplarsPart(Value):
    """What several seeds of the recipe change alike: words, and the images that most of them change."""

    words: str
    rows: tuple[Exemplar, ...]
    seeds: int
    evidence: Digest


class RateRow(Value):
    """The rates of one group for both models: how often the class is said, found, and said where it is not."""

    slice: str
    candidate: tuple[Figure, Figure, Figure]
    parent: tuple[Figure, Figure, Figure]


class ConfidenceBin(Value):
    """Answers of about one confidence: how sure the model was, and how often it was right."""

    told: Number
    right: Number


class Reliability(Value):
    """Confidence against being right, for both models, least confident first."""

    candidate: tuple[ConfidenceBin, ...]
    parent: tuple[ConfidenceBin, ...]

    def bins(self) -> tuple[tuple[ConfidenceBin | None, ConfidenceBin | None], ...]:
        """The bins of both side by side; None where one has fewer."""
        return tuple(zip_longest(self.candidate, self.parent))


class FrontierPoint(Value):
    """One candidate of this parent: how much of it is left, and how well it works."""

    version: str
    candidate: Digest
    recipe: str
    kept: float
    size: float
    outcome: Outcome
    here: bool
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
    bom: dict[str, Any]
    """The CycloneDX document, the same that a release signs."""

    @cached_property
    def as_json(self) -> bytes:
        """The whole report as canonical JSON, written once: it is a form of its own and lies inside the PDF."""
        return canonical_json(self.model_dump(mode="json"))
