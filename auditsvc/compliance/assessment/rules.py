"""From a framework and the records to one assessment per requirement.

Each rule of ``policies/frameworks/_vocabulary.yaml`` is a function from the kinds of evidence of a requirement to its
status.  Verdicts come from the decision and statements from people; nothing is decided here, and every assessment
names the records that it is based on.  The worst status wins, a requirement without a record is never supported, and
statuses are never summed to a percentage.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from auditsvc.compliance.assessment.assessment_context import AssessmentContext
from auditsvc.compliance.assessment.attestations import Incident
from auditsvc.compliance.assessment.evidence_status import EvidenceStatus, evidence_status, kind_title, unwatched, worst
from auditsvc.compliance.assessment.framework import Framework, Placement, Requirement, Status
from auditsvc.compliance.report.wording import minute
from auditsvc.records import Digest, Moment, Value

Found = tuple[Status, str]


@dataclass(frozen=True)
class Row:
    """A requirement, the status of each kind of evidence that it names, and all records."""

    requirement: Requirement
    kinds: tuple[EvidenceStatus, ...]
    context: AssessmentContext


def _joined(kinds: Sequence[EvidenceStatus]) -> str:
    return "; ".join(f"{kind_title(found.kind)}: {found.message}" for found in kinds)


def _relevant(kinds: Sequence[EvidenceStatus]) -> list[EvidenceStatus]:
    """The kinds of evidence that apply; if none applies, all of them."""
    return [found for found in kinds if found.status != "not_applicable"] or list(kinds)


def _cap(status: Status, best: Status) -> Status:
    return worst((status, best)) if status != "not_applicable" else status


def _test(row: Row) -> Found:
    statuses = [found.status for found in _relevant(row.kinds)]
    if statuses and set(statuses) == {"not_applicable"}:
        return "not_applicable", _joined(row.kinds)
    return worst(statuses), _joined(row.kinds) or "the framework data name no kind of evidence for this requirement"


def _mixed(row: Row) -> Found:
    """Tests supported and documents attested by a second person are supported; one of the two alone is partly."""
    status, message = _test(row)
    if status != "attested":
        return status, message
    return ("supported" if any(found.status == "supported" for found in row.kinds) else "attested"), message


def _statement(row: Row) -> Found:
    status, message = _test(row)
    return _cap(status, "attested"), message


def _screen(row: Row) -> Found:
    """The question of the requirement decides where there is one, otherwise all questions of the screening."""
    answers = row.context.latest_answers()
    question = next((one for one in row.context.questionnaire.questions if one.row == row.requirement.id), None)
    if question is None or answers is None or row.context.today > answers.expires:
        return _statement(row)
    given = answers.answer(question)
    review = f"reviewed by {answers.reviewer}" if answers.reviewer else "not reviewed"
    message = f"{answers.person} answered “{given}”, {review}: {question.text}"
    others = [found.status for found in row.kinds if not found.kind.startswith("screen.")]
    if given == "unknown":
        return worst(("not_assessed", *others)), message
    if given == "yes" and question.screen == "screen.prohibited":
        return "contradicted", message
    return worst(("attested" if answers.reviewer else "partly", *others)), message


def _present(row: Row) -> Found:
    """That something exists or is retained is at best partly supported."""
    status, message = _test(row)
    return _cap(status, "partly"), message


def _before(row: Row) -> Found:
    """The policy was recorded before the first test."""
    first = min((run.started for run in row.context.inputs.evidence), default=None)
    if first is None:
        return "missing", "nothing was measured"
    if row.context.policy_at is None:
        return "missing", "no trusted timestamp shows when the policy was recorded"
    order = f"the policy was recorded on {minute(row.context.policy_at)}, the first test started on {minute(first)}"
    return ("contradicted" if row.context.policy_at > first else "supported"), order


def _match(row: Row) -> Found:
    """Numbers stated in a document equal the evidence after rounding."""
    status, message = _test(row)
    documents = [document for found in row.kinds for document in row.context.documents_of(found.kind)]
    claims = [claim for document in documents for claim in document.claims]
    if not claims:
        return worst((status, "insufficient")), f"{message}; no document states numbers that could be compared"
    readings = row.context.inputs.readings
    wrong = []
    for claim in claims:
        figure = readings.get(claim.metric, claim.slice)
        if figure.state == "unmeasured" or round(figure.value, claim.decimals) != round(claim.value, claim.decimals):
            wrong.append(f"{claim.metric} on {claim.slice}: the document states {claim.value:g}, the evidence differs")
    if wrong:
        return "contradicted", "; ".join(wrong)
    better = "supported" if status == "attested" else status
    return better, f"{len(claims)} numbers in the document equal the evidence; {message}"


def _signed(row: Row) -> Found:
    """Test reports need the signature of a responsible person; a machine key alone is partly supported."""
    status, message = _test(row)
    return _cap(status, "partly"), f"{message}; signed with a machine key, not by a person"


def _change(row: Row) -> Found:
    """The difference is measured; whether it is substantial is a statement by a person, compared with the plan."""
    word, plan = row.context.latest_verdict(), row.context.latest_plan()
    others = [found for found in row.kinds if found.kind not in {"doc.change_assessment", "doc.change_plan"}]
    if word is None:
        return worst(
            ("missing", *(found.status for found in others))
        ), "no person has stated whether this change is substantial"
    outside = (
        row.context.outside_plan(plan)
        if plan and row.context.today <= plan.expires
        else ("there is no change plan in force",)
    )
    if word.verdict == "planned" and outside:
        return "contradicted", f"{word.person} classified the change as planned, but {'; '.join(outside)}"
    if word.verdict == "substantial":
        return (
            "contradicted",
            f"{word.person}: a substantial modification, which needs a new conformity assessment. {word.reason}",
        )
    status = worst((*(found.status for found in others), "supported" if word.reviewer else "partly"))
    return status, f"{word.person}: {word.verdict}. {word.reason}"


def _clock(row: Row) -> Found:
    """Every relevant incident against its deadline; without incidents, the status of the incident watch."""
    harms, days = row.requirement.harms, row.requirement.within_days
    known = row.context.current_incidents()
    about = [one for one in known if not harms or one.harm in harms]
    if not known or days is None:
        status, message = unwatched(row.context.watches, row.context.today)
        return status, message
    if not about:
        return "not_applicable", f"none of the {len(known)} registered incidents is of this kind"
    return reported_in_time(about, days, row.context.at)


RULES: dict[str, Callable[[Row], Found]] = {
    "R-TEST": _test,
    "R-EVENT": _test,
    "R-MIX": _mixed,
    "R-DOC": _statement,
    "R-SCREEN": _screen,
    "R-PRES": _present,
    "R-KEEP": _present,
    "R-PRIOR": _before,
    "R-MATCH": _match,
    "R-SIGNED": _signed,
    "R-CHANGE": _change,
    "R-CLOCK": _clock,
    "R-ROLLUP": lambda _: ("not_assessed", "a roll-up of other requirements, without a status of its own"),
    "R-ORG": lambda _: ("out_of_scope", "concerns the organisation; no release can show it"),
    "R-NONE": lambda _: ("out_of_scope", "repealed"),
}
"""Each rule of the frameworks by name, with its function."""


def reported_in_time(incidents: Iterable[Incident], days: int, now: Moment) -> tuple[Status, str]:
    """The status of incidents against a deadline in days; the worst one decides."""
    late, open_ones, in_time = [], [], 0
    for one in incidents:
        due = one.aware + datetime.timedelta(days=days)
        if (one.reported or now) > due:
            late.append(f"{one.harm}, known since {one.aware.date()}, due on {due.date()}")
        elif one.reported is None:
            open_ones.append(f"{one.harm}, known since {one.aware.date()}, due on {due.date()}")
        else:
            in_time += 1
    if late:
        return "contradicted", f"not reported within {days} days: {'; '.join(late)}"
    if open_ones:
        return "insufficient", f"not reported yet: {'; '.join(open_ones)}"
    return "supported", f"{in_time} reported within {days} days"


class Assessment(Value):
    """The assessment of one requirement; ``evidence_status`` is also given where it applies only later."""

    framework: str
    requirement: str
    key: str
    title: str
    reference: str
    group: str
    role: str
    rule: str
    assessability: str
    status: Status
    evidence_status: Status
    counted: bool
    message: str
    applies: str
    due: datetime.date | None = None
    """The first day on which it applies, by the earliest reading of the law, where that day is to come."""
    kinds: tuple[EvidenceStatus, ...]
    records: tuple[Digest, ...]
    note: str


def assess(framework: Framework, context: AssessmentContext) -> Iterator[Assessment]:
    """One assessment for each requirement of the framework, in its order, at the time of the context."""
    known: dict[str, EvidenceStatus] = {}
    for row in framework.requirements:
        for kind in row.evidence:
            if kind not in known:
                known[kind] = evidence_status(kind, context)
        yield _assess(framework, row, tuple(known[kind] for kind in row.evidence), context)


def _assess(
    framework: Framework, row: Requirement, kinds: tuple[EvidenceStatus, ...], context: AssessmentContext
) -> Assessment:
    evidence_status, message = RULES[row.rule](Row(row, kinds, context))
    placement = framework.placements.get(row.placement)
    status, why = _in_time(row, placement, evidence_status, context)
    counted = status not in {"out_of_scope", "not_yet_due", "not_applicable"} and row.rule != "R-ROLLUP"
    return Assessment.from_source(
        row,
        framework=framework.framework,
        requirement=row.id,
        status=status,
        evidence_status=evidence_status,
        counted=counted,
        message="; ".join(part for part in (why, message) if part),
        applies=applies_words(placement, row),
        due=min(start.date for start in placement.dates) if placement and status == "not_yet_due" else None,
        kinds=kinds,
        records=tuple(dict.fromkeys(name for found in kinds for name in found.records)),
    )


def _in_time(row: Requirement, placement: Placement | None, found: Status, context: AssessmentContext) -> Found:
    """Applies dates and the declared risk class; they never replace the evidence status."""
    if found == "out_of_scope" or placement is None:
        return found, ""
    if placement.high_risk_only and row.rule != "R-SCREEN":
        risk = context.risk()
        if risk.declared == "not high-risk":
            return "not_applicable", f"{risk.person} declared that the use is not high-risk: {'; '.join(risk.because)}"
    first = min(start.date for start in placement.dates)
    if context.today < first:
        return (
            "not_yet_due",
            f"applies from {first.isoformat()} at the earliest; evidence status so far: {found.replace('_', ' ')}",
        )
    return found, ""


def applies_words(placement: Placement | None, row: Requirement) -> str:
    """From when a requirement applies; where interpretations differ, all of them."""
    if placement is None:
        return ""
    dates = "; ".join(f"{start.date.isoformat()} {start.when}" for start in placement.dates)
    disputed = f" Disputed: {placement.disputed}" if placement.disputed else ""
    note = f" ({row.applies_note})" if row.applies_note else ""
    return f"{dates}{note}.{disputed}"
