"""From records to the report model, as a pure function.

The same records and the same time give the same report, byte for byte.  Verdicts come from the decision, and what was
not measured is stated as such.  This file assembles the parts: lineage, changed answers, decision and glossary;
``sections`` makes the parts that show measurements, ``triage`` the significant losses, ``summary`` the first page.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from auditsvc import __version__
from auditsvc.compliance.assessment.assessment_context import (
    AssessmentContext,
    GalleryItem,
    Readings,
    ReportInputs,
    expiry,
    figure_of,
)
from auditsvc.compliance.assessment.attestations import Risk
from auditsvc.compliance.assessment.framework import Framework
from auditsvc.compliance.report.report_model import (
    DecisionPart,
    FlipCount,
    Lineage,
    Picture,
    Report,
    Signature,
    Subject,
    VerificationPart,
    VerificationStep,
    WaiverPart,
    WatermarkPart,
    WatermarkReading,
)
from auditsvc.compliance.report.sections import (
    curves,
    evidence_index,
    examples,
    exemplars,
    frontier,
    rates,
    related,
    reliability,
    rules,
    slice_tables,
    suggested,
)
from auditsvc.compliance.report.summary import (
    changes,
    checklist,
    gaps,
    law_box,
    next_step,
    plain_verdict,
    statements,
    summarise,
)
from auditsvc.compliance.report.triage import triage
from auditsvc.compliance.report.wording import Fact, condition_order, count_title, day, labelled, sentence_case
from auditsvc.errors import InvalidInput
from auditsvc.records import OVERALL, Digest, Evidence, Measured, Metric, Moment, Parent, Verdict
from auditsvc.records.cyclonedx import bill_of_materials
from auditsvc.records.decision import missing_consent
from auditsvc.records.evidence import Change

_WORDS = {
    "Candidate": "The pruned model to be released: one exact set of files, identified by its digest.",
    "Condition": "A modification of every image before both models are evaluated on it, such as less light or an "
    "occluded area.",
    "Digest": "A cryptographic hash of a file or record. If one bit changes, the digest changes.",
    "Evidence": "The stored result of one run of one check, with everything needed to repeat it.",
    "Interval": "The confidence interval: the range in which the true value is expected, given the number of tested "
    "images. Rules are evaluated at its unfavourable end.",
    "Met, violated, unknown": "Met: the limit holds even at the unfavourable end of the interval. Violated: it does "
    "not hold. Unknown: the evidence is inconclusive. Unknown blocks a release as violated does.",
    "Parent": "The model before pruning. Both models were evaluated on every image.",
    "Points": "Percentage points: from 95 % to 92 % is a loss of 3 points.",
    "Pruning": "Removing weights from a model to make it smaller or faster.",
    "Slice, group": "A named subset of the test images, for instance all photos of women.",
    "Waiver": "A named person accepts the risk of one rule that is not met, with a reason and an end date. "
    "A waived rule does not count as met.",
    "Watermark": "A hidden mark in the weights that lets the owner recognise the model. It is not a statement about "
    "quality.",
}

GLOSSARY: tuple[Fact, ...] = tuple(Fact(label=term, value=meaning) for term, meaning in _WORDS.items())
"""Terms used in the report, in alphabetical order."""


def flip_counts(runs: Mapping[Digest, Evidence]) -> tuple[FlipCount, ...]:
    """The number of changed answers under each condition, from the readings: all images, not only those shown."""
    churn = next((found for _, metric, found in _overall(runs) if metric.id == "churn"), None)
    made: dict[str, FlipCount] = {}
    for digest, metric, found in _overall(runs):
        condition = metric.condition
        if metric.role != "loss" or not condition or found.lost is None or found.won is None or condition in made:
            continue
        other = None
        if churn and condition == "clean":
            other = max(round(churn.value * churn.images) - found.lost - found.won, 0)
        made[condition] = FlipCount(
            condition=condition,
            title=runs[digest].condition(condition).words,
            images=found.images,
            regressed=found.lost,
            improved=found.won,
            other=other,
            evidence=digest,
        )
    return tuple(
        sorted(made.values(), key=lambda count: condition_order(runs[count.evidence].condition(count.condition)))
    )


def _overall(runs: Mapping[Digest, Evidence]) -> Iterator[tuple[Digest, Metric, Measured]]:
    """Every value over all images, with its evidence and its metric."""
    for digest, run in runs.items():
        for reading in run.readings:
            outcome = reading.outcome
            if reading.slice == OVERALL and isinstance(outcome, Measured):
                yield digest, run.metric(reading.metric), outcome


_ORDER: tuple[Change, ...] = get_args(Change)


def pictures(gallery: tuple[GalleryItem, ...], readings: Readings) -> tuple[Picture, ...]:
    """The gallery, regressions first."""
    items = sorted(
        gallery, key=lambda item: (_ORDER.index(item.change), condition_order(readings.condition(item.condition)))
    )
    return tuple(_picture(item, readings.condition(item.condition).words) for item in items)


def _picture(item: GalleryItem, title: str) -> Picture:
    groups = ", ".join(item.slices) or "no group"
    return Picture.from_source(
        item,
        media_type="image/jpeg" if item.data[:2] == b"\xff\xd8" else "image/png",
        data=base64.b64encode(item.data).decode("ascii"),
        title=title,
        alt=f"Test image {item.image} ({groups}; {title}): truth {item.target}, "
        f"parent {item.parent}, candidate {item.candidate}",
    )


def lineage(inputs: ReportInputs) -> Lineage:
    """Parent, recipe and candidate as labelled facts."""
    parent, recipe = inputs.parent, inputs.candidate.recipe
    made: dict[str, Any] = {"Recipe": "not recorded: the candidate was imported"}
    if recipe:
        made = {
            "Method": recipe.method,
            "Targets": recipe.targets,
            "Seed": recipe.seed,
            "Recovery": recipe.recovery,
            "Data used": recipe.data or "none",
            "Recipe record": recipe.digest,
        } | ({"Number format": recipe.number_format} if recipe.number_format else {})
    return Lineage(
        parent=labelled(_parent_facts(parent)),
        recipe=labelled(made),
        candidate=labelled(
            {
                "Digest": inputs.candidate.digest,
                **{count_title(name): float(value) for name, value in sorted(inputs.candidate.card.items())},
                **_costs(inputs),
                **{f"File {file.name}": f"{file.digest} ({file.size:,} bytes)" for file in inputs.candidate.files},
            }
        ),
    )


def _costs(inputs: ReportInputs) -> dict[str, Any]:
    """Latency relative to the parent, and the effect of zero weights."""
    timing, card = inputs.timing, inputs.candidate.card
    said: dict[str, Any] = {}
    if timing is not None:
        said["Latency"] = (
            f"{timing.median_ms:.3g} ms (interquartile range {timing.iqr_ms:.2g}) against "
            f"{timing.parent_median_ms:.3g} ms ({timing.parent_iqr_ms:.2g}) of the parent, measured alternately in "
            f"{timing.runs} rounds: {timing.speed}; {timing.how}"
        )
    zeros = card.get("parameters", 0.0) - card.get("nonzero", card.get("parameters", 0.0))
    if zeros > 0:
        said["Zeros"] = (
            f"{zeros:,.0f} parameters are zero; dense kernels are not faster because of them, and the size of the "
            "compressed file is listed above"
        )
    return said


def _parent_facts(parent: Parent) -> dict[str, Any]:
    return {
        "Name": parent.model,
        "Architecture": parent.architecture,
        "Source": parent.source,
        "Licence": parent.licence,
        "Digest": parent.digest,
        **{f"File {file.name}": f"{file.digest} ({file.size:,} bytes)" for file in parent.files},
    }


MARK_NOTE = (
    "The watermark lets the owner recognise the model. It is not the marking of synthetic content that "
    "Art. 50(2) of the "
    "EU AI Act requires, and it supports no requirement of any framework."
)


def watermark(inputs: ReportInputs) -> WatermarkPart | None:
    """The public facts about the watermark and the results of its check; None for a candidate without either."""
    mark = inputs.candidate.mark
    readings = tuple(
        WatermarkReading(
            metric=reading.metric,
            title=sentence_case(run.metric(reading.metric).title),
            measured=figure_of(run.metric(reading.metric), reading.outcome, digest, run.key.alpha),
        )
        for digest, run in inputs.runs.items()
        if run.key.check == "watermark"
        for reading in run.readings
    )
    if mark is None and not readings:
        return None
    facts = (
        labelled({"Scheme": mark.scheme, "Commitment": mark.commitment, "Unmarked weights": mark.unmarked})
        if mark
        else ()
    )
    return WatermarkPart(facts=facts, readings=readings, note=MARK_NOTE)


__all__ = ["GalleryItem", "Report", "ReportInputs", "build_report"]


NOT_ANSWERED = Risk(declared="unknown", because=("the questionnaire was not answered",))


def build_report(
    inputs: ReportInputs,
    *,
    at: Moment,
    context: AssessmentContext | None = None,
    frameworks: tuple[Framework, ...] = (),
    previous: Report | None = None,
) -> Report:
    """The report of one decision, as of ``at``.

    ``context`` holds the statements of people, ``frameworks`` what to assess, ``previous`` the last release's report.

    Raises:
        InvalidInput: records that are not about this decision; lists all of them.
    """
    inputs.check()
    if context and (context.inputs != inputs or context.at != at):
        raise InvalidInput(
            "the assessment context has other records or another time than the report; use the same for both"
        )
    risk = context.risk() if context else NOT_ANSWERED
    parts = tuple(checklist(framework, context) for framework in frameworks) if context else ()
    flips = flip_counts(inputs.runs)
    return Report(
        at=at.replace(microsecond=0),
        tool=f"auditsvc {__version__}",
        subject=_subject(inputs),
        decision=_decision(inputs, at, context.policy_at if context else None),
        summary=summarise(inputs, inputs.readings, flips),
        slices=slice_tables(inputs.readings),
        rules=rules(inputs),
        curves=curves(inputs.readings, inputs.evidence),
        flips=flips,
        triage=triage(inputs.runs, inputs.readings),
        pictures=pictures(inputs.gallery, inputs.readings),
        examples=examples(inputs),
        rates=rates(inputs.readings),
        reliability=reliability(inputs.readings),
        frontier=frontier(inputs),
        suggested=suggested(inputs),
        exemplars=exemplars(inputs),
        related=labelled(related(inputs)),
        lineage=lineage(inputs),
        watermark=watermark(inputs),
        evidence=evidence_index(inputs, at),
        waivers=_waivers(inputs, at),
        risk=risk,
        law=law_box(risk, parts, at.date()),
        frameworks=parts,
        gaps=gaps(parts),
        statements=statements(context) if context else (),
        changes=changes(inputs, previous),
        verification=_verification(inputs),
        where=labelled(inputs.where),
        glossary=GLOSSARY,
        bom=bill_of_materials(
            inputs.candidate, inputs.version, inputs.parent, inputs.evidence, inputs.decision, inputs.made_from
        ),
    )


def _subject(inputs: ReportInputs) -> Subject:
    own = {"model": inputs.model, "version": inputs.version, "candidate": inputs.candidate.digest}
    use = {"intended_use": inputs.parent.intended_use, "not_for": inputs.parent.not_for}
    return Subject.from_source(inputs.candidate, **own, **use)


def _decision(inputs: ReportInputs, at: Moment, policy_at: Moment | None) -> DecisionPart:
    headline, explanation = _headline(inputs)
    if any(at.date() > expiry(run, inputs.policy.max_age_days) for run in inputs.evidence):
        headline += ", evidence expired"
        explanation += " The verdicts are of that day; the evidence is too old to be relied on now."
    approvals = (Signature(person=a.approver, at=a.at, comment=a.comment, record=a.digest) for a in inputs.approvals)
    return DecisionPart(
        headline=headline,
        verdict=plain_verdict(inputs.decision, inputs.readings),
        explanation=explanation,
        next_step=next_step(
            inputs.decision,
            inputs.submitter,
            missing=inputs.consent.approvals - len(inputs.approvals),
            released=inputs.release is not None,
        ),
        outcome=inputs.decision.outcome,
        record=inputs.decided,
        policy=inputs.policy.policy,
        policy_version=inputs.policy.version,
        policy_record=inputs.policy.digest,
        policy_why=inputs.policy.why,
        policy_at=policy_at,
        at=inputs.decision.at,
        submitter=inputs.submitter,
        approvals=tuple(approvals),
        approvals_needed=inputs.consent.approvals,
        released=inputs.release.at if inputs.release else None,
        release_record=inputs.release.digest if inputs.release else None,
        conditions=_conditions(inputs),
        notes=inputs.notes,
    )


def _headline(inputs: ReportInputs) -> tuple[str, str]:
    """The state of the release as a headline and a sentence; approvals are part of it."""
    if inputs.verification and inputs.verification.verdict == "REVOKED":
        return "Revoked", "This release was revoked. Do not use it."
    if inputs.decision.outcome == "rejected":
        return "Not released", f"Violated rules that block the release: {_blocking(inputs, 'violated')}."
    if inputs.decision.outcome == "inconclusive":
        return (
            "On hold",
            f"No blocking rule is violated, but the evidence is inconclusive for: {_blocking(inputs, 'unknown')}.",
        )
    if inputs.trial:
        return "Trial: approved", "Every blocking rule is met or waived, but no terms bind this decision."
    if inputs.release is None:
        required = inputs.consent.approvals
        if (missing := required - len(inputs.approvals)) > 0:
            why = f"Every blocking rule is met or waived; {missing} of {required} approvals are missing."
            return "Waiting for approval", why
        lacking = missing_consent(inputs.consent, (approval.approver for approval in inputs.approvals))
        if lacking:
            return "Waiting for approval", f"Every blocking rule is met or waived; {'; '.join(lacking)}."
        return (
            "Approved",
            "Every blocking rule is met or waived and all approvals were given; the release is not signed yet.",
        )
    if _conditions(inputs):
        return (
            "Released with conditions",
            "Every blocking rule is met or waived; waivers and warnings are listed below.",
        )
    return "Released", "Every blocking rule is met at the unfavourable end of its interval."


def _blocking(inputs: ReportInputs, verdict: Verdict) -> str:
    found = [j for j in inputs.decision.findings if j.severity == "block" and j.verdict == verdict and not j.waiver]
    return ", ".join(dict.fromkeys(judgement.rule for judgement in found)) or "see the rules below"


def _conditions(inputs: ReportInputs) -> tuple[str, ...]:
    if inputs.decision.outcome != "approved":
        return ()
    lines = [
        f"{waiver.rule} is waived by {waiver.person} until {day(waiver.until)}: {waiver.reason}"
        for waiver in inputs.waivers
        if waiver.digest in inputs.decision.waivers
    ]
    warned = [finding for finding in inputs.decision.findings if not finding.waiver]
    return (*lines, *(f"{finding.rule} on {finding.slice}: {finding.words}" for finding in warned))


def _waivers(inputs: ReportInputs, at: Moment) -> tuple[WaiverPart, ...]:
    waivers = inputs.waivers
    return tuple(WaiverPart.from_source(one, expired=at.date() > one.until, record=one.digest) for one in waivers)


def _verification(inputs: ReportInputs) -> VerificationPart | None:
    found = inputs.verification
    if found is None:
        return None
    return VerificationPart.from_source(
        found, steps=tuple(VerificationStep.from_source(one, passed=one.ok) for one in found.steps)
    )
