"""How each rule of the frameworks gets from kinds of evidence to a status.

The rules are those of ``policies/frameworks/_vocabulary.yaml``.  Each is a function of one row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from auditsvc.compliance.assessment.assessment_context import AssessmentContext
from auditsvc.compliance.assessment.evidence_status import worst
from auditsvc.compliance.assessment.framework import Requirement, Status
from auditsvc.compliance.assessment.incident_status import reported_in_time, unwatched
from auditsvc.compliance.assessment.kind_state import KindState
from auditsvc.compliance.report.wording import minute

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
