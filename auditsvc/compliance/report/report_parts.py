"""The parts of a report that show what was measured: groups, rules, curves, changed answers, evidence."""

from __future__ import annotations

import datetime
from typing import Literal

from auditsvc.compliance.report.figures import Counts, Fact, Figure, Standing, Unit
from auditsvc.records import Digest, Moment, Severity, Value, Verdict
from auditsvc.records.evidence import Change


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
