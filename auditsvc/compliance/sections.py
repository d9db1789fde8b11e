"""The parts of a report that come straight from the evidence: slices, curves, flips, rules, index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable

from auditsvc.compliance.conditions import FAMILIES, Family
from auditsvc.compliance.figures import Counts, Figure, Gap, Number, Standing, Unit
from auditsvc.compliance.inputs import Readings, ReportInputs, expiry, figure_of
from auditsvc.compliance.parts import Curve, CurvePoint, EvidenceRow, RulePart, RuleRow, SliceRow, SliceTable
from auditsvc.compliance.topics import topic_of
from auditsvc.compliance.words import condition_order, condition_parts, condition_words, facts, rule_words, unit_of
from auditsvc.records import OVERALL, Digest, Evidence, Judgement, Moment


def standing_of(judgement: Judgement) -> Standing:
    """How a judgement is drawn: a waiver never turns it into ``met``."""
    return "waived" if judgement.waiver and judgement.verdict != "met" else judgement.verdict


def count(standings: Iterable[Standing]) -> Counts:
    """Counts by standing; no total, no share."""
    found = Counter(standings)
    return Counts(met=found["met"], violated=found["violated"], unknown=found["unknown"], waived=found["waived"])


def slice_tables(readings: Readings) -> tuple[SliceTable, ...]:
    """One table for each condition, the unchanged images first."""
    conditions = sorted(readings.conditions(), key=condition_order)
    return tuple(
        SliceTable(condition=name, title=condition_words(name), rows=_slice_rows(name, readings)) for name in conditions
    )


def _slice_rows(condition: str, readings: Readings) -> tuple[SliceRow, ...]:
    names = readings.slices(f"score.{condition}")
    return tuple(_slice_row(condition, name, readings) for name in sorted(names, key=lambda name: name != OVERALL))


def _slice_row(condition: str, name: str, readings: Readings) -> SliceRow:
    candidate = readings.get(f"score.{condition}", name)
    return SliceRow(
        slice=name,
        images=candidate.images,
        parent=readings.get(f"parent.{condition}", name),
        candidate=candidate,
        loss=readings.get(f"drop.{condition}", name),
    )


def curves(readings: Readings, evidence: tuple[Evidence, ...]) -> tuple[Curve, ...]:
    """One curve for each family of conditions with numeric severities, where there are at least two points."""
    families: dict[str, list[tuple[float, str]]] = {}
    for condition in readings.conditions():
        parts = condition_parts(condition)
        if parts:
            families.setdefault(parts[0], []).append((parts[1], condition))
    topics = _family_topics(evidence)
    made = []
    for family, severities in families.items():
        plain = family.replace("_", " ")
        known = FAMILIES.get(family, Family(plain, plain, "", neutral=None))
        if known.neutral is not None and "clean" in readings.conditions():
            severities.append((known.neutral, "clean"))
        points = tuple(_point(severity, condition, readings) for severity, condition in sorted(severities))
        if len(points) > 1:
            made.append(
                Curve(
                    family=family, topic=topics.get(family, "other"), title=known.title, axis=known.axis, points=points
                )
            )
    return tuple(made)


def _family_topics(evidence: tuple[Evidence, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for run in evidence:
        topic = topic_of(run)
        for reading in run.readings:
            found.setdefault(
                reading.metric.partition(".")[2].partition("@")[0], topic.title if topic else run.key.check
            )
    return found


def _point(severity: float, condition: str, readings: Readings) -> CurvePoint:
    metric = f"score.{condition}"
    weakest, value = weakest_slice(metric, readings)
    return CurvePoint(
        severity=severity,
        condition=condition,
        parent=readings.get(f"parent.{condition}", OVERALL),
        candidate=readings.get(metric, OVERALL),
        loss=readings.get(f"drop.{condition}", OVERALL),
        weakest=weakest,
        weakest_value=value,
    )


def weakest_slice(metric: str, readings: Readings, leave: Container[str] = ()) -> tuple[str, Figure]:
    """The group that is most surely weak, but for those to leave out; ``overall`` where there is none.

    Ranked by the upper end of the interval: the lowest value is often that of a few images that had bad luck.
    """
    measured = [
        (figure.high, name, figure)
        for name in readings.slices(metric)
        if name != OVERALL and name not in leave and isinstance(figure := readings.get(metric, name), Number)
    ]
    if not measured:
        return OVERALL, readings.get(metric, OVERALL)
    _, name, figure = min(measured, key=lambda found: found[:2])
    return name, figure


def rules(inputs: ReportInputs) -> tuple[RulePart, ...]:
    """Every rule of the policy with every line that it judged, what does not hold first."""
    alphas = {digest: run.key.alpha for digest, run in inputs.runs.items()}
    parts = []
    for rule in inputs.policy.rules:
        found = [judgement for judgement in inputs.decision.judgements if judgement.rule == rule.rule]
        rows = tuple(
            _rule_row(judgement, alphas.get(judgement.evidence or "", inputs.policy.alpha))
            for judgement in sorted(found, key=_worst_first)
        )
        parts.append(
            RulePart(
                rule=rule.rule,
                sentence=rule_words(rule),
                source=rule.sentence(),
                why=rule.why,
                severity=rule.severity,
                counts=count(row.standing for row in rows),
                rows=rows,
            )
        )
    return tuple(parts)


_STANDINGS: tuple[Standing, ...] = ("violated", "unknown", "waived", "met")


def _worst_first(judgement: Judgement) -> int:
    return _STANDINGS.index(standing_of(judgement))


def _rule_row(judgement: Judgement, alpha: float) -> RuleRow:
    metric = judgement.metric.rpartition("/")[2]
    own = unit_of(metric)
    unit: Unit = "points" if judgement.against and own != "plain" else own
    return RuleRow(
        metric=metric,
        slice=judgement.slice,
        verdict=judgement.verdict,
        standing=standing_of(judgement),
        severity=judgement.severity,
        measured=_judged(judgement, metric, alpha, unit),
        bound=judgement.bound,
        limit=judgement.limit,
        unit=unit,
        waiver=judgement.waiver,
        adjusted_p=judgement.adjusted_p,
        words=judgement.words,
    )


def _judged(judgement: Judgement, metric: str, alpha: float, unit: Unit) -> Figure:
    if judgement.evidence is not None:
        found = figure_of(metric, judgement.outcome, judgement.evidence, alpha)
        return found.model_copy(update={"unit": unit}) if isinstance(found, Number) else found
    outcome = judgement.outcome
    reason = outcome.reason if outcome.state == "unmeasured" else "a number without evidence counts as none"
    return Gap(reason=reason, images=outcome.images)


def evidence_index(inputs: ReportInputs, at: Moment) -> tuple[EvidenceRow, ...]:
    """One line for each run, in the order in which they were given."""
    return tuple(_evidence_row(digest, run, inputs.policy.max_age_days, at) for digest, run in inputs.runs.items())


def _evidence_row(digest: Digest, run: Evidence, max_age_days: int, at: Moment) -> EvidenceRow:
    topic = topic_of(run)
    until = expiry(run, max_age_days)
    return EvidenceRow(
        record=digest,
        check=run.key.check,
        version=run.key.version,
        topic=topic.title if topic else "other",
        parameters=facts(run.key.parameters),
        seed=run.key.seed,
        alpha=run.key.alpha,
        dataset=run.dataset.name + (f" (a stage of it; {run.dataset.images} in all)" if run.key.stage else ""),
        dataset_digest=run.dataset.digest,
        dataset_images=run.key.stage or run.dataset.images,
        dataset_source=run.dataset.source,
        dataset_licence=run.dataset.licence,
        code=run.key.code,
        environment=facts(run.environment),
        started=run.started,
        finished=run.finished,
        readings=len(run.readings),
        unmeasured=sum(reading.outcome.state == "unmeasured" for reading in run.readings),
        expires=until,
        expired=at.date() > until,
    )
