"""The first page of a report and its framework part: plain sentences, counts and lists, never a score.

The first page has three sentences on what was found, the topics that were not tested, the counts of rule evaluations
and the open items.  The framework part lists requirements, statements by people, and changes since the last release.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator

from auditsvc.compliance.assessment.assessment_context import AssessmentContext, Readings, ReportInputs, expiry
from auditsvc.compliance.assessment.attestations import (
    Answers,
    ChangePlan,
    ChangeVerdict,
    Document,
    Incident,
    Risk,
    Watch,
)
from auditsvc.compliance.assessment.evidence_status import NEVER_TESTED, EvidenceStatus, kind_title, untested
from auditsvc.compliance.assessment.framework import WORST_FIRST, Framework, Placement, Status
from auditsvc.compliance.assessment.rules import Assessment, assess
from auditsvc.compliance.report.report_model import (
    ApplicationDates,
    ChangeRow,
    FlipCount,
    FrameworkPart,
    GapRow,
    OpenItem,
    Report,
    Sentence,
    StatementRow,
    StatusCount,
    Summary,
)
from auditsvc.compliance.report.sections import count, rule_status, weakest_slice
from auditsvc.compliance.report.wording import (
    NARROW,
    SCORE_WORDS,
    Fact,
    Figure,
    Number,
    amount,
    day,
    full_text,
    interval_text,
    plural,
    short_text,
    slice_words,
    unit_of,
)
from auditsvc.records import CLEAN_CONDITION, OVERALL, Decision, Judgement, Measured, Metric


def plain_verdict(decision: Decision, readings: Readings) -> str:
    """The decision as one sentence: what blocks it, with the largest certain losses, or that nothing does."""
    blocking = [one for one in decision.findings if one.severity == "block" and one.waiver is None]
    if decision.outcome == "approved":
        worst = _worst(decision.judgements, readings)
        most = f"; largest loss {' and '.join(worst)}" if worst else ""
        return f"Every blocking rule is met{' or waived' if decision.waivers else ''}{most}."
    if decision.outcome == "inconclusive":
        first = blocking[0] if blocking else None
        example = (
            f", for example {first.rule} on {slice_words(first.slice)} ({_measured(first, readings)})" if first else ""
        )
        return f"Not decided: {plural(len(blocking), 'result')} can't be judged{example}."
    broken = [one for one in blocking if one.verdict == "violated"]
    worst = _worst(broken, readings)
    parts = [f"loses {' and '.join(worst)}"] if worst else []
    other = [one for one in broken if _metric_of(one, readings).role != "loss"]
    for one in other[: 2 - len(worst)]:
        metric = _metric_of(one, readings)
        limit = f"{'at least' if one.bound == 'at_least' else 'at most'} {amount(one.limit, unit_of(metric))}"
        parts.append(f"{metric.title} {_measured(one, readings)} on {slice_words(one.slice)}, limit {limit}")
    return f"Not approved: {'; '.join(parts) or 'a rule is violated'}."


def next_step(
    decision: Decision, submitter: str, *, missing: int = 0, released: bool = False, objector: str = ""
) -> str:
    """What happens next with a decision, and who must do it."""
    if released:
        return "Released. Next: the operator monitors it; an auditor audits it again before its evidence expires."
    if decision.outcome == "rejected":
        return (
            f"Next: {submitter or 'the submitter'} prunes less, or otherwise, and submits a new version. An approver "
            "can waive a rule if the policy allows it."
        )
    if decision.outcome == "inconclusive":
        return "Next: an auditor audits it with more images of what can't be judged, or an approver waives the rule."
    if decision.trial:
        return "Next: two people set the terms of the model; then an auditor audits this version under them."
    if objector:
        return f"Next: {submitter} answers the objection. {objector} withdraws it, or a new version is submitted."
    if missing > 0:
        people = "1 more person" if missing == 1 else f"{missing} more people"
        return f"Next: {people} with the role approver, not {submitter}, approve."
    return "Next: a person with the role auditor signs and publishes it."


def _worst(judged: Iterable[Judgement], readings: Readings) -> list[str]:
    """The largest certain loss on unmodified images, and the largest of any slice under another condition."""
    found: dict[bool, tuple[float, str]] = {}
    for one in judged:
        metric = _metric_of(one, readings)
        if metric.role != "loss" or not metric.condition or one.against or not isinstance(one.outcome, Measured):
            continue
        clean = metric.condition == CLEAN_CONDITION.name
        under = "" if clean else f" under “{readings.condition(metric.condition).words}”"
        words = f"{_measured(one, readings)} on {slice_words(one.slice)}{under}"
        found[clean] = max(found.get(clean, (-9.0, "")), (one.outcome.low, words))
    return [found[clean][1] for clean in (True, False) if clean in found]


def _metric_of(one: Judgement, readings: Readings) -> Metric:
    return readings.metric(one.metric.rpartition("/")[2])


def _measured(one: Judgement, readings: Readings) -> str:
    """The value with its interval and number of images, or why there is none."""
    found, metric = one.outcome, _metric_of(one, readings)
    unit = unit_of(metric)
    if not isinstance(found, Measured):
        return found.reason
    low, high = (amount(end, unit).partition(NARROW)[0] for end in (found.low, found.high))
    ends = f"{low} to {high}; " if found.low != found.high else ""
    seen = "exact" if metric.counts == "exact" else plural(found.images, metric.counts or "image")
    return f"{amount(found.value, unit)} ({ends}{seen})"


def summarise(inputs: ReportInputs, readings: Readings, flips: tuple[FlipCount, ...]) -> Summary:
    """What a reader who is not technical needs to know first."""
    expiries = [expiry(run, inputs.policy.max_age_days) for run in inputs.evidence]
    small = _small(inputs, readings)
    return Summary(
        sentences=(_works(inputs, readings), _weakest(readings, small), _lost(inputs, readings, flips, small)),
        not_tested=_not_tested(inputs, small),
        counts=count(rule_status(judgement) for judgement in inputs.decision.judgements),
        open_items=_open_items(inputs),
        evidence_expires=min(expiries, default=None),
    )


def _works(inputs: ReportInputs, readings: Readings) -> Sentence:
    figure = readings.get("score.clean", OVERALL)
    if not isinstance(figure, Number):
        return Sentence(text=f"The score on unmodified images was not measured: {figure.reason}.")
    message = SCORE_WORDS[inputs.candidate.task].format(full_text(figure))
    return Sentence(
        text=f"On {plural(figure.images, 'unmodified test image')} the candidate {message}.",
        evidence=(figure.evidence,),
    )


def _weakest(readings: Readings, small: dict[str, int]) -> Sentence:
    group, figure = weakest_slice("score.clean", readings, small)
    parts, evidence = [], []
    if isinstance(figure, Number) and group != OVERALL:
        parts.append(f"{short_text(figure)} for {group}, {plural(figure.images, 'image')}")
        evidence.append(figure.evidence)
    worst = _worst_condition(readings)
    if worst:
        condition, number = worst
        parts.append(f"{short_text(number)} under “{readings.condition(condition).words}”")
        evidence.append(number.evidence)
    if not parts:
        return Sentence(text="The weakest group is not known: no group and no difficult condition was measured.")
    return Sentence(text=f"Lowest scores: {'; '.join(parts)}.", evidence=tuple(dict.fromkeys(evidence)))


def _worst_condition(readings: Readings) -> tuple[str, Number] | None:
    found = [
        (figure.value, condition, figure)
        for condition in readings.conditions()
        if condition != "clean" and isinstance(figure := readings.get(f"score.{condition}", OVERALL), Number)
    ]
    if not found:
        return None
    _, condition, figure = min(found, key=lambda item: item[:2])
    return condition, figure


def _lost(inputs: ReportInputs, readings: Readings, flips: tuple[FlipCount, ...], small: dict[str, int]) -> Sentence:
    overall = readings.get("drop.clean", OVERALL)
    if not isinstance(overall, Number):
        return Sentence(text=f"The loss against the parent was not measured: {overall.reason}.")
    evidence = [overall.evidence]
    text = f"Compared with its parent the candidate {_loss_words(overall)} overall"
    group, worst = _largest_loss(readings, small)
    if worst and worst.value > overall.value:
        text += f"; it {_loss_words(worst)} on {group}, {plural(worst.images, 'image')}"
        evidence.append(worst.evidence)
    clean = next((flip for flip in flips if flip.condition == "clean"), None)
    if clean:
        if inputs.candidate.task == "classification":
            text += (
                f". {plural(clean.regressed, 'image')} changed from right to wrong, {clean.improved} from wrong "
                "to right"
            )
        else:
            text += f". {plural(clean.regressed, 'image')} got worse, {clean.improved} better"
        evidence.append(clean.evidence)
    return Sentence(text=f"{text}.", evidence=tuple(dict.fromkeys(evidence)))


def _largest_loss(readings: Readings, small: dict[str, int]) -> tuple[str, Number | None]:
    """The group with the largest certain loss: by the lower end of the interval, not by the estimate."""
    found = [
        (-figure.low, name, figure)
        for name in readings.slices("drop.clean")
        if name != OVERALL and name not in small and isinstance(figure := readings.get("drop.clean", name), Number)
    ]
    if not found:
        return OVERALL, None
    _, name, figure = min(found, key=lambda item: item[:2])
    return name, figure


def _loss_words(figure: Number) -> str:
    """The change with its interval as a loss; an interval that contains 0 may be due to chance."""
    lost, interval = abs(figure.value), interval_text(figure)
    if amount(lost, figure.unit) == amount(0.0, figure.unit):
        return f"shows no measurable loss ({interval})"
    unclear = "" if figure.low > 0 or figure.high < 0 else "; may be due to chance"
    verb = "loses" if figure.value >= 0 else "gains"
    note = "" if figure.value >= 0 else " as a loss"
    return f"{verb} {amount(lost, figure.unit)} ({interval}{note}{unclear})"


def _small(inputs: ReportInputs, readings: Readings) -> dict[str, int]:
    """Groups with too few images on unmodified images, with their size: not measured, or not evaluated by a rule."""
    judged = [
        (line.slice, line.outcome.images)
        for line in inputs.decision.judgements
        if line.slice != OVERALL and line.metric.endswith(".clean") and line.outcome.state == "unmeasured"
    ]
    measured = [
        (name, figure.images)
        for name in readings.slices("score.clean")
        if name != OVERALL and not isinstance(figure := readings.get("score.clean", name), Number)
    ]
    return dict(judged + measured)


def _not_tested(inputs: ReportInputs, small: dict[str, int]) -> tuple[str, ...]:
    lines = []
    topics = untested(inputs.evidence, timed=inputs.timing is not None)
    if topics:
        lines.append(f"No check measured: {', '.join(topics)}.")
    if small:
        named = [f"{name} ({plural(images, 'image')})" for name, images in small.items()]
        more = f" and {len(named) - 6} more groups" if len(named) > 6 else ""
        lines.append(f"Too few images: {', '.join(named[:6])}{more}.")
    lines.append(f"No test of a model covers {' or '.join(NEVER_TESTED)}.")
    return tuple(lines)


def _open_items(inputs: ReportInputs) -> tuple[OpenItem, ...]:
    """One item for each rule and status, with every slice on which it is not met."""
    groups: dict[tuple[str, str, str], list[Judgement]] = {}
    for finding in inputs.decision.findings:
        groups.setdefault((finding.rule, rule_status(finding), finding.severity), []).append(finding)
    return tuple(_open_item(found, inputs) for found in groups.values())


def _open_item(found: list[Judgement], inputs: ReportInputs) -> OpenItem:
    first = found[0]
    waiver = next((waiver for waiver in inputs.waivers if waiver.digest == first.waiver), None)
    several = len({judgement.metric for judgement in found}) > 1
    return OpenItem(
        rule=first.rule,
        status=rule_status(first),
        severity=first.severity,
        affected=tuple(dict.fromkeys(_affected(judgement, inputs.readings, several) for judgement in found)),
        message=first.words,
        owner=waiver.person if waiver else "",
        until=waiver.until if waiver else None,
    )


def _affected(judgement: Judgement, readings: Readings, several: bool) -> str:
    """The slice, and the condition or metric where the rule has more than one."""
    metric = readings.metric(judgement.metric.rpartition("/")[2])
    about = readings.condition(metric.condition).words if metric.condition else metric.title
    return f"{slice_words(judgement.slice)}, {about}" if several else slice_words(judgement.slice)


NOT_COUNTED: tuple[Status, ...] = ("not_yet_due", "not_applicable", "out_of_scope")
"""Statuses that are printed separately from the counts."""

ASSESSABILITY = {
    "automatic": "{} can be supported by tests alone",
    "mixed": "{} by tests and documents together",
    "attestation": "{} only by statements of people",
    "out_of_scope": "{} are out of scope for one release",
    "repealed": "{} are repealed",
}


def checklist(framework: Framework, context: AssessmentContext) -> FrameworkPart:
    """One framework, assessed row by row."""
    rows = tuple(assess(framework, context))
    counted = Counter(row.status for row in rows if row.counted)
    not_counted = Counter(row.status for row in rows if row.status in NOT_COUNTED)
    kinds: Counter[str] = Counter(row.assessability for row in framework.requirements)
    return FrameworkPart.from_source(
        framework,
        stale=framework.stale(context.today),
        headline=headline(rows),
        counts=tuple(StatusCount(status=name, rows=counted[name]) for name in reversed(WORST_FIRST) if counted[name]),
        not_counted=tuple(
            StatusCount(status=name, rows=not_counted[name]) for name in NOT_COUNTED if not_counted[name]
        ),
        assessability=", ".join(words.format(kinds[kind]) for kind, words in ASSESSABILITY.items() if kinds[kind]),
        dates=tuple(_dates(placement) for placement in framework.placements.values()),
        groups=tuple(Fact(label=name, value=title) for name, title in framework.groups.items()),
        rows=rows,
    )


_OWNERS = {
    "doc": "provider: a document",
    "data": "provider: a document about the data",
    "gov": "provider: a document, or the approvers",
    "screen": "auditor: the questionnaire",
    "ops": "operator: records of operation",
    "integrity": "auditor: sign the release",
}
"""Who hands in a kind of evidence, by its group; everything else is measured by a check."""


def owner_of(kind: str) -> str:
    """Who hands in a kind of evidence."""
    return _OWNERS.get(kind.partition(".")[0], "engineer: a check")


def lacking(row: Assessment) -> tuple[EvidenceStatus, ...]:
    """What a requirement lacks that applies now, or will by a date."""
    if not (row.counted or row.due):
        return ()
    return tuple(found for found in row.kinds if found.status not in {"supported", "attested"})


def gaps(parts: tuple[FrameworkPart, ...]) -> tuple[GapRow, ...]:
    """Every kind of evidence that a requirement lacks: what is due first, and what most requirements need, first."""
    needed: dict[str, dict[str, datetime.date]] = {}
    known: dict[str, EvidenceStatus] = {}
    for part in parts:
        for row in part.rows:
            for found in lacking(row):
                known.setdefault(found.kind, found)
                needed.setdefault(found.kind, {})[f"{part.short} {row.requirement}"] = row.due or datetime.date.min
    rows = []
    for kind, requirements in needed.items():
        first = min(requirements.values())
        named = tuple(name for name, day_due in requirements.items() if day_due == first)
        due = None if first == datetime.date.min else first
        facts = {"title": kind_title(kind), "owner": owner_of(kind), "requirements": named, "due": due}
        rows.append(GapRow.from_source(known[kind], **facts))
    return tuple(sorted(rows, key=lambda row: (row.due or datetime.date.min, -len(row.requirements), row.title)))


def headline(rows: tuple[Assessment, ...]) -> str:
    """How many of the requirements that apply have a record, in words; or that none was assessed."""
    counted = [row for row in rows if row.counted]
    assessed = [row for row in counted if row.status not in {"missing", "not_assessed"}]
    if not assessed:
        return "no requirement was assessed"
    return f"{len(assessed)} of {len(counted)} requirements that apply now have a record"


def _dates(placement: Placement) -> ApplicationDates:
    return ApplicationDates(
        part=placement.title,
        dates=tuple(Fact(label=start.when, value=start.date.isoformat()) for start in placement.dates),
        disputed=placement.disputed,
    )


def law_box(risk: Risk, parts: tuple[FrameworkPart, ...], today: datetime.date) -> tuple[str, ...]:
    """The declared risk class, and dates from which parts of the law will apply."""
    who = f", as declared by {risk.person}" if risk.person else ""
    lines = [f"Risk class under the EU AI Act: {risk.declared}{who} ({'; '.join(risk.because)})."]
    for part in parts:
        later = [dates for dates in part.dates if all(_parse(fact.value) > today for fact in dates.dates)]
        for dates in sorted(later, key=lambda dates: -len(dates.dates))[:1]:
            starts = "; ".join(f"{day(_parse(fact.value))} ({fact.label})" for fact in dates.dates)
            lines.append(f"{part.short}, {dates.part}: applies from {starts}.")
        disputed = [dates.part for dates in part.dates if dates.disputed]
        if disputed:
            lines.append(f"The start of {' and '.join(disputed)} is disputed; both interpretations are listed below.")
        if part.stale:
            lines.append(
                f"The data on {part.name} were last checked on {day(part.data_checked)} and may be out of date."
            )
    return tuple(lines)


def _parse(text: str) -> datetime.date:
    return datetime.date.fromisoformat(text)


def statements(context: AssessmentContext) -> tuple[StatementRow, ...]:
    """Documents and statements by people, newest last."""
    return tuple(sorted(_statements(context), key=lambda row: (row.at, row.title)))


def _statements(context: AssessmentContext) -> Iterator[StatementRow]:
    for one in context.documents:
        yield _statement_row(context, one.document, one.title, one.owner, one)
    for answers in context.answers:
        title = f"Questionnaire {answers.questionnaire}, version {answers.version}"
        yield _statement_row(context, "answers", title, answers.person, answers)
    for plan in context.plans:
        yield _statement_row(context, "change plan", plan.words, plan.person, plan)
    for verdict in context.verdicts:
        yield _statement_row(context, "change verdict", f"{verdict.verdict}: {verdict.reason}", verdict.person, verdict)
    for incident in context.current_incidents():
        reported = f"reported on {day(incident.reported)}" if incident.reported else "not reported yet"
        title = f"Incident ({incident.harm}), known since {day(incident.aware)}, {reported}: {incident.words}"
        yield _statement_row(context, "incident", title, incident.person, incident)
    for watch in context.watches:
        title = f"Incident watch from {day(watch.since)} to {day(watch.until)}: {watch.words}"
        yield _statement_row(context, "incident watch", title, watch.person, watch)


_Statement = Document | Answers | ChangePlan | ChangeVerdict | Incident | Watch


def _statement_row(context: AssessmentContext, kind: str, title: str, person: str, record: _Statement) -> StatementRow:
    expires = record.expires if isinstance(record, Document | Answers | ChangePlan) else None
    return StatementRow(
        kind=kind,
        title=title,
        person=person,
        reviewer="" if isinstance(record, Incident | Watch) else record.reviewer or "",
        at=record.at,
        expires=expires,
        expired=expires is not None and context.today > expires,
        record=record.digest,
    )


def changes(inputs: ReportInputs, previous: Report | None) -> tuple[ChangeRow, ...]:
    """The main figures of the previous report and of this one."""
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
