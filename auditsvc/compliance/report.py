"""From records to the one report model, by a pure function.

The same records and the same moment give the same report, byte for byte.  Nothing is judged here: verdicts
come from the decision, and what was not measured is said to be so.
"""

from __future__ import annotations

from auditsvc import __version__
from auditsvc.compliance.checklists import changes, checklist, law_box, papers
from auditsvc.compliance.damage import flip_counts, pictures
from auditsvc.compliance.dossier import Dossier
from auditsvc.compliance.drawn import examples, exemplars, frontier, rates, related, reliability, suggested
from auditsvc.compliance.framework import Framework
from auditsvc.compliance.glossary import GLOSSARY
from auditsvc.compliance.human import Risk
from auditsvc.compliance.inputs import GalleryItem, ReportInputs, expiry
from auditsvc.compliance.lineage import lineage, watermark
from auditsvc.compliance.model import (
    DecisionPart,
    Report,
    Signature,
    Subject,
    VerificationPart,
    VerificationStep,
    WaiverPart,
)
from auditsvc.compliance.sections import curves, evidence_index, rules, slice_tables
from auditsvc.compliance.summary import summarise
from auditsvc.compliance.triage import triage
from auditsvc.compliance.words import day, labelled
from auditsvc.errors import InvalidInput
from auditsvc.records import Moment, Verdict
from auditsvc.records.decision import missing_consent

__all__ = ["GalleryItem", "Report", "ReportInputs", "compose"]


UNASKED = Risk(declared="unknown", because=("nobody has answered the questionnaire",))


def compose(
    inputs: ReportInputs,
    *,
    at: Moment,
    dossier: Dossier | None = None,
    frameworks: tuple[Framework, ...] = (),
    previous: Report | None = None,
) -> Report:
    """The report of one decision, as of ``at``.

    ``dossier`` holds what people added, ``frameworks`` what it is held against, ``previous`` is the last release's.

    Raises:
        InvalidInput: records that are not about this decision, all of them listed.
    """
    inputs.check()
    if dossier and (dossier.inputs != inputs or dossier.at != at):
        raise InvalidInput("the dossier is about other records or another moment; make both from the same")
    risk = dossier.risk() if dossier else UNASKED
    parts = tuple(checklist(framework, dossier) for framework in frameworks) if dossier else ()
    flips = flip_counts(inputs.runs)
    return Report(
        at=at.replace(microsecond=0),
        tool=f"auditsvc {__version__}",
        subject=_subject(inputs),
        decision=_decision(inputs, at, dossier.policy_at if dossier else None),
        summary=summarise(inputs, inputs.readings, flips),
        slices=slice_tables(inputs.readings),
        rules=rules(inputs),
        curves=curves(inputs.readings, inputs.evidence),
        flips=flips,
        triage=triage(inputs.runs, inputs.readings),
        pictures=pictures(inputs.gallery),
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
        papers=papers(dossier) if dossier else (),
        changes=changes(inputs, previous),
        verification=_verification(inputs),
        where=labelled(inputs.where),
        glossary=GLOSSARY,
    )


def _subject(inputs: ReportInputs) -> Subject:
    return Subject(
        model=inputs.model,
        version=inputs.version,
        task=inputs.candidate.task,
        architecture=inputs.candidate.architecture,
        candidate=inputs.candidate.digest,
        parent=inputs.parent.digest,
        intended_use=inputs.parent.intended_use,
        not_for=inputs.parent.not_for,
    )


def _decision(inputs: ReportInputs, at: Moment, policy_at: Moment | None) -> DecisionPart:
    headline, explanation = _headline(inputs)
    if any(at.date() > expiry(run, inputs.policy.max_age_days) for run in inputs.evidence):
        headline += ", evidence expired"
        explanation += " The verdicts are of that day; the evidence is too old to be relied on now."
    approvals = (Signature(person=a.approver, at=a.at, comment=a.comment, record=a.digest) for a in inputs.approvals)
    return DecisionPart(
        headline=headline,
        explanation=explanation,
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
        approvals_needed=inputs.policy.approvals,
        released=inputs.release.at if inputs.release else None,
        release_record=inputs.release.digest if inputs.release else None,
        conditions=_conditions(inputs),
        notes=inputs.decision.notes or (),
    )


def _headline(inputs: ReportInputs) -> tuple[str, str]:
    """The state of the release in one or two words and a sentence; a person's consent is part of it."""
    if inputs.verification and inputs.verification.verdict == "REVOKED":
        return "Revoked", "This release was withdrawn. Do not use it."
    if inputs.decision.outcome == "rejected":
        return "Not released", f"Violated, though it must hold: {_blocking(inputs, 'violated')}."
    if inputs.decision.outcome == "inconclusive":
        return (
            "On hold",
            f"Nothing that must hold is known to be violated, but too little is known: {_blocking(inputs, 'unknown')}.",
        )
    if inputs.release is None:
        missing = inputs.policy.approvals - len(inputs.approvals)
        if missing > 0:
            return (
                "Waiting for approval",
                f"Every rule that blocks is settled; {missing} of {inputs.policy.approvals} approvals are missing.",
            )
        lacking = missing_consent(inputs.policy, (approval.approver for approval in inputs.approvals))
        if lacking:
            return "Waiting for approval", f"Every rule that blocks is settled; {'; '.join(lacking)}."
        return "Approved", "Every rule that blocks is settled and enough people approved; it is not sealed yet."
    if _conditions(inputs):
        return (
            "Released with conditions",
            "Every rule that blocks is settled; some lines are waived or only warn, see below.",
        )
    return "Released", "Every rule that must hold does, at the worse end of its interval."


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
    return tuple(
        WaiverPart(
            rule=waiver.rule,
            person=waiver.person,
            reason=waiver.reason,
            until=waiver.until,
            at=waiver.at,
            expired=at.date() > waiver.until,
            record=waiver.digest,
        )
        for waiver in inputs.waivers
    )


def _verification(inputs: ReportInputs) -> VerificationPart | None:
    found = inputs.verification
    if found is None:
        return None
    steps = (VerificationStep(step=s.step, code=s.code, held=s.ok, detail=s.detail) for s in found.steps)
    return VerificationPart(verdict=found.verdict, as_of=found.as_of, steps=tuple(steps), notes=found.notes)
