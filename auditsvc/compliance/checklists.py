"""Frameworks, papers and changes as parts of a report: counts and lists, never a score."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator

from auditsvc.compliance.assess import assess
from auditsvc.compliance.dossier import Dossier
from auditsvc.compliance.figures import Fact, Figure
from auditsvc.compliance.framework import WORST_FIRST, Framework, Placement, Status
from auditsvc.compliance.human import Answers, ChangePlan, ChangeVerdict, Document, Risk
from auditsvc.compliance.incidents import Incident, Watch
from auditsvc.compliance.inputs import ReportInputs
from auditsvc.compliance.model import ChangeRow, FrameworkPart, LawDates, Paper, Report, StatusCount
from auditsvc.compliance.sections import weakest_slice
from auditsvc.compliance.states import Assessment
from auditsvc.compliance.words import day, full_text, slice_words
from auditsvc.records import OVERALL

ASIDE: tuple[Status, ...] = ("not_yet_due", "not_applicable", "out_of_scope")
"""Statuses that are printed beside the counts and not among them."""

BY_WHOM = {
    "automatic": "{} can be shown by tests alone",
    "mixed": "{} by tests and documents together",
    "attestation": "{} only by people",
    "out_of_scope": "{} not by one release at all",
    "repealed": "{} repealed",
}


def checklist(framework: Framework, dossier: Dossier) -> FrameworkPart:
    """One framework, assessed row by row."""
    rows = tuple(assess(framework, dossier))
    counted = Counter(row.status for row in rows if row.counted)
    aside = Counter(row.status for row in rows if row.status in ASIDE)
    kinds: Counter[str] = Counter(row.assessability for row in framework.requirements)
    return FrameworkPart(
        framework=framework.framework,
        name=framework.name,
        short=framework.short,
        version=framework.version,
        standing=framework.standing,
        data_checked=framework.data_checked,
        stale=framework.stale(dossier.today),
        headline=headline(rows),
        counts=tuple(StatusCount(status=name, rows=counted[name]) for name in reversed(WORST_FIRST) if counted[name]),
        aside=tuple(StatusCount(status=name, rows=aside[name]) for name in ASIDE if aside[name]),
        by_whom=", ".join(words.format(kinds[kind]) for kind, words in BY_WHOM.items() if kinds[kind]),
        dates=tuple(_dates(placement) for placement in framework.placements.values()),
        groups=tuple(Fact(label=name, value=title) for name, title in framework.groups.items()),
        rows=rows,
    )


def headline(rows: tuple[Assessment, ...]) -> str:
    """What the counts amount to, in words; with no row assessed, that."""
    counted = [row for row in rows if row.counted]
    looked_at = [row for row in counted if row.status not in {"missing", "not_assessed"}]
    if not looked_at:
        return "nothing assessed"
    return f"{len(looked_at)} of {len(counted)} rows that are due have a record"


def _dates(placement: Placement) -> LawDates:
    return LawDates(
        part=placement.title,
        dates=tuple(Fact(label=start.when, value=start.date.isoformat()) for start in placement.dates),
        disputed=placement.disputed,
    )


def law_box(risk: Risk, parts: tuple[FrameworkPart, ...], today: datetime.date) -> tuple[str, ...]:
    """What a reader should know about the law: the risk class as declared, and dates that are still to come."""
    who = f", as declared by {risk.person}" if risk.person else ""
    lines = [f"Risk class under the EU AI Act: {risk.declared}{who} ({'; '.join(risk.because)})."]
    for part in parts:
        later = [dates for dates in part.dates if all(_parse(fact.value) > today for fact in dates.dates)]
        for dates in sorted(later, key=lambda dates: -len(dates.dates))[:1]:
            told = "; ".join(f"{day(_parse(fact.value))} ({fact.label})" for fact in dates.dates)
            lines.append(f"{part.short}, {dates.part}: from {told}.")
        disputed = [dates.part for dates in part.dates if dates.disputed]
        if disputed:
            lines.append(f"The start of {' and '.join(disputed)} is disputed; both readings are below.")
        if part.stale:
            lines.append(f"The data on {part.name} were last checked on {day(part.data_checked)}: too long ago.")
    return tuple(lines)


def _parse(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def papers(dossier: Dossier) -> tuple[Paper, ...]:
    """What people added, newest last."""
    return tuple(sorted(_papers(dossier), key=lambda paper: (paper.at, paper.title)))


def _papers(dossier: Dossier) -> Iterator[Paper]:
    for one in dossier.documents:
        yield _paper(dossier, one.document, one.title, one.owner, one)
    for answers in dossier.answers:
        title = f"Questionnaire {answers.questionnaire}, version {answers.version}"
        yield _paper(dossier, "answers", title, answers.person, answers)
    for plan in dossier.plans:
        yield _paper(dossier, "change plan", plan.words, plan.person, plan)
    for verdict in dossier.verdicts:
        yield _paper(dossier, "change verdict", f"{verdict.verdict}: {verdict.reason}", verdict.person, verdict)
    for incident in dossier.register():
        told = f"reported on {day(incident.reported)}" if incident.reported else "not reported yet"
        title = f"Incident ({incident.harm}), known on {day(incident.aware)}, {told}: {incident.words}"
        yield _paper(dossier, "incident", title, incident.person, incident)
    for watch in dossier.watches:
        title = f"Watch for incidents from {day(watch.since)} to {day(watch.until)}: {watch.words}"
        yield _paper(dossier, "incident watch", title, watch.person, watch)


_Said = Document | Answers | ChangePlan | ChangeVerdict | Incident | Watch


def _paper(dossier: Dossier, kind: str, title: str, person: str, record: _Said) -> Paper:
    expires = record.expires if isinstance(record, Document | Answers | ChangePlan) else None
    return Paper(
        kind=kind,
        title=title,
        person=person,
        reviewer="" if isinstance(record, Incident | Watch) else record.reviewer or "",
        at=record.at,
        expires=expires,
        expired=expires is not None and dossier.today > expires,
        record=record.digest,
    )


def changes(inputs: ReportInputs, previous: Report | None) -> tuple[ChangeRow, ...]:
    """The main figures of the previous report beside those of this one."""
    if previous is None:
        return ()
    readings = inputs.readings
    group, weakest = weakest_slice("score.clean", readings)
    clean = next((table for table in previous.slices if table.condition == "clean"), None)
    old = {row.slice: row.candidate for row in clean.rows} if clean else {}
    before_group, before_weakest = _lowest(old)
    rows = (
        ("Version", previous.subject.version, inputs.version),
        ("Candidate", previous.subject.candidate, inputs.candidate.digest),
        ("Decision", previous.decision.outcome, inputs.decision.outcome),
        ("Policy", previous.decision.policy_record, inputs.policy.digest),
        ("All images", _text(old.get(OVERALL)), full_text(readings.get("score.clean", OVERALL))),
        (
            "Weakest group",
            f"{slice_words(before_group)}: {_text(before_weakest)}",
            f"{slice_words(group)}: {full_text(weakest)}",
        ),
    )
    return tuple(ChangeRow(label=label, before=before, after=after) for label, before, after in rows)


def _lowest(figures: dict[str, Figure]) -> tuple[str, Figure | None]:
    measured = [(f.value, name, f) for name, f in figures.items() if f.state == "measured" and name != OVERALL]
    if not measured:
        return OVERALL, figures.get(OVERALL)
    _, name, figure = min(measured, key=lambda found: found[:2])
    return name, figure


def _text(figure: Figure | None) -> str:
    return full_text(figure) if figure else "not measured"
