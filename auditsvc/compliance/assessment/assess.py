"""From a framework and records to one assessment per requirement.

Adds no judgement: verdicts come from the decision, statements from people, and each row says on which records it
rests.  Worst wins; a row without a record is never passed; nothing is added up to a share.
"""

from __future__ import annotations

from collections.abc import Iterator

from auditsvc.compliance.assessment.assessment_context import AssessmentContext
from auditsvc.compliance.assessment.evidence_status import kind_state
from auditsvc.compliance.assessment.framework import Framework, Placement, Requirement, Status
from auditsvc.compliance.assessment.kind_state import Assessment, KindState
from auditsvc.compliance.assessment.row_rules import RULES, Found, Row


def assess(framework: Framework, dossier: AssessmentContext) -> Iterator[Assessment]:
    """One assessment for each requirement of the framework, in its order, as of the dossier's moment."""
    known: dict[str, KindState] = {}
    for row in framework.requirements:
        for kind in row.evidence:
            if kind not in known:
                known[kind] = kind_state(kind, dossier)
        yield _assess(framework, row, tuple(known[kind] for kind in row.evidence), dossier)


def _assess(
    framework: Framework, row: Requirement, kinds: tuple[KindState, ...], dossier: AssessmentContext
) -> Assessment:
    evidence_status, words = RULES[row.rule](Row(row, kinds, dossier))
    placement = framework.placements.get(row.placement)
    status, why = _in_time(row, placement, evidence_status, dossier)
    counted = status not in {"out_of_scope", "not_yet_due", "not_applicable"} and row.rule != "R-ROLLUP"
    return Assessment(
        framework=framework.framework,
        requirement=row.id,
        key=row.key,
        title=row.title,
        reference=row.reference,
        group=row.group,
        role=row.role,
        rule=row.rule,
        assessability=row.assessability,
        status=status,
        evidence_status=evidence_status,
        counted=counted,
        words="; ".join(part for part in (why, words) if part),
        applies=applies_words(placement, row),
        kinds=kinds,
        records=tuple(dict.fromkeys(name for found in kinds for name in found.records)),
        note=row.note,
    )


def _in_time(row: Requirement, placement: Placement | None, found: Status, dossier: AssessmentContext) -> Found:
    """Dates and the declared risk class; both are facts beside the evidence, never instead of it."""
    if found == "out_of_scope" or placement is None:
        return found, ""
    if placement.high_risk_only and row.rule != "R-SCREEN":
        risk = dossier.risk()
        if risk.declared == "not high-risk":
            return "not_applicable", f"{risk.person} declared that the use is not high-risk: {'; '.join(risk.because)}"
    first = min(start.date for start in placement.dates)
    if dossier.today < first:
        return "not_yet_due", f"applies from {first.isoformat()} at the earliest; the evidence so far is “{found}”"
    return found, ""


def applies_words(placement: Placement | None, row: Requirement) -> str:
    """From when a row applies; where readings differ, all of them."""
    if placement is None:
        return ""
    dates = "; ".join(f"{start.date.isoformat()} {start.when}" for start in placement.dates)
    disputed = f" Disputed: {placement.disputed}" if placement.disputed else ""
    note = f" ({row.applies_note})" if row.applies_note else ""
    return f"{dates}{note}.{disputed}"
