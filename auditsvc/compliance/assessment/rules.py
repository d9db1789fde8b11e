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
from auditsvc.compliance.assessment.evidence_status import KindState, kind_state, unwatched, worst
from auditsvc.compliance.assessment.framework import Framework, Placement, Requirement, Status
from auditsvc.compliance.report.wording import minute
from auditsvc.records import Digest, Moment, Value

Found = tuple[Status, str]


@dataclass(frozen=True)
class Row:
    """A requirement, the state of each kind of evidence that it names, and all records."""

    requirement: Requirement
    kinds: tuple[KindState, ...]
    dossier: AssessmentContext


def _told(kinds: Sequence[KindState]) -> str:
    return "; ".join(f"{found.kind}: {found.words}" for found in kinds)


def _relevant(kinds: Sequence[KindState]) -> list[KindState]:
    """Without kinds that do not apply; if none applies, all of them."""
    return [found for found in kinds if found.status != "not_applicable"] or list(kinds)


def _cap(status: Status, best: Status) -> Status:
    return worst((status, best)) if status != "not_applicable" else status


def _test(row: Row) -> Found:
    statuses = [found.status for found in _relevant(row.kinds)]
    if statuses and set(statuses) == {"not_applicable"}:
        return "not_applicable", _told(row.kinds)
    return worst(statuses), _told(row.kinds) or "no kind of evidence is named for this row"


def _mixed(row: Row) -> Found:
    """Tests supported and documents attested by a second person are supported; one of the two alone is partly."""
    status, words = _test(row)
    if status != "attested":
        return status, words
    return ("supported" if any(found.status == "supported" for found in row.kinds) else "attested"), words


def _statement(row: Row) -> Found:
    status, words = _test(row)
    return _cap(status, "attested"), words


def _screen(row: Row) -> Found:
    """One question decides where the row has its own; the screen as a whole decides elsewhere."""
    answers = row.dossier.latest_answers()
    question = next((one for one in row.dossier.questionnaire.questions if one.row == row.requirement.id), None)
    if question is None or answers is None or row.dossier.today > answers.expires:
        return _statement(row)
    given = answers.answer(question)
    words = f"{answers.person} answered “{given}”, reviewed by {answers.reviewer or 'nobody'}: {question.text}"
    others = [found.status for found in row.kinds if not found.kind.startswith("screen.")]
    if given == "unknown":
        return worst(("not_assessed", *others)), words
    if given == "yes" and question.screen == "screen.prohibited":
        return "contradicted", words
    return worst(("attested" if answers.reviewer else "partly", *others)), words


def _present(row: Row) -> Found:
    """That something exists, or that it is kept, is at best partly shown."""
    status, words = _test(row)
    return _cap(status, "partly"), words


def _before(row: Row) -> Found:
    """The policy was there before the first test."""
    first = min((run.started for run in row.dossier.inputs.evidence), default=None)
    if first is None:
        return "missing", "nothing was measured"
    if row.dossier.policy_at is None:
        return "missing", "no trusted time says when the policy was first there"
    told = f"the policy is of {minute(row.dossier.policy_at)} and the first test of {minute(first)}"
    return ("contradicted" if row.dossier.policy_at > first else "supported"), told


def _match(row: Row) -> Found:
    """Numbers that a document prints equal the evidence, as far as they are rounded."""
    status, words = _test(row)
    papers = [paper for found in row.kinds for paper in row.dossier.documents_of(found.kind)]
    claims = [claim for paper in papers for claim in paper.claims]
    if not claims:
        return worst((status, "insufficient")), f"{words}; no document states numbers to compare"
    readings = row.dossier.inputs.readings
    wrong = []
    for claim in claims:
        figure = readings.get(claim.metric, claim.slice)
        if figure.state == "unmeasured" or round(figure.value, claim.decimals) != round(claim.value, claim.decimals):
            wrong.append(f"{claim.metric} on {claim.slice}: the document says {claim.value:g}")
    if wrong:
        return "contradicted", "; ".join(wrong)
    better = "supported" if status == "attested" else status
    return better, f"{len(claims)} numbers in the document equal the evidence; {words}"


def _signed(row: Row) -> Found:
    """Test reports need a responsible person's own signature; a machine's key alone is partly."""
    status, words = _test(row)
    return _cap(status, "partly"), f"{words}; signed by a machine's key, not by a person"


def _change(row: Row) -> Found:
    """The difference is counted; whether it is substantial is a person's word, and a plan is held against it."""
    word, plan = row.dossier.latest_verdict(), row.dossier.latest_plan()
    others = [found for found in row.kinds if found.kind not in {"doc.change_assessment", "doc.change_plan"}]
    if word is None:
        return worst(
            ("missing", *(found.status for found in others))
        ), "nobody has said whether this change is substantial"
    outside = (
        row.dossier.outside_plan(plan) if plan and row.dossier.today <= plan.expires else ("there is no plan in force",)
    )
    if word.verdict == "planned" and outside:
        return "contradicted", f"{word.person} called the change planned, but {'; '.join(outside)}"
    if word.verdict == "substantial":
        return "contradicted", f"{word.person}: a substantial modification; the assessment starts again. {word.reason}"
    status = worst((*(found.status for found in others), "supported" if word.reviewer else "partly"))
    return status, f"{word.person}: {word.verdict}. {word.reason}"


def _clock(row: Row) -> Found:
    """Every incident that the row is about, against its limit; none at all is what the watch says."""
    harms, days = row.requirement.harms, row.requirement.within_days
    known = row.dossier.register()
    about = [one for one in known if not harms or one.harm in harms]
    if not known or days is None:
        status, words = unwatched(row.dossier.watches, row.dossier.today)
        return status, words
    if not about:
        return "not_applicable", f"none of {len(known)} registered incidents is of this kind"
    return reported_in_time(about, days, row.dossier.at)


def _rollup(_row: Row) -> Found:
    return "not_assessed", "shows the counts of the rows it sums up; it has no status of its own"


def _organisation(_row: Row) -> Found:
    return "out_of_scope", "a matter of the organisation; no release can show it"


def _repealed(_row: Row) -> Found:
    return "out_of_scope", "repealed"


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
    "R-ROLLUP": _rollup,
    "R-ORG": _organisation,
    "R-NONE": _repealed,
}
"""How each rule of the frameworks gets from row.kinds of evidence to a status."""


def reported_in_time(incidents: Iterable[Incident], days: int, now: Moment) -> tuple[Status, str]:
    """How these incidents stand against a limit in days; the worst one tells."""
    late, open_ones, told = [], [], 0
    for one in incidents:
        due = one.aware + datetime.timedelta(days=days)
        if (one.reported or now) > due:
            late.append(f"{one.harm}, known on {one.aware.date()}, due on {due.date()}")
        elif one.reported is None:
            open_ones.append(f"{one.harm}, known on {one.aware.date()}, is due on {due.date()}")
        else:
            told += 1
    if late:
        return "contradicted", f"not reported within {days} days: {'; '.join(late)}"
    if open_ones:
        return "insufficient", f"not reported yet: {'; '.join(open_ones)}"
    return "supported", f"{told} reported within {days} days"


class Assessment(Value):
    """How one requirement stands.  ``evidence_status`` is shown beside a row that applies only later."""

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
    words: str
    applies: str
    kinds: tuple[KindState, ...]
    records: tuple[Digest, ...]
    note: str


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
