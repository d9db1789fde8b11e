"""The parts of a report that show measurements: slices, rules, curves, frontier, examples and the evidence index."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping

from auditsvc.compliance.assessment.assessment_context import Readings, ReportInputs, Sibling, expiry, figure_of
from auditsvc.compliance.assessment.evidence_status import topic_title
from auditsvc.compliance.report.report_model import (
    ConfidenceBin,
    Curve,
    CurvePoint,
    EvidenceRow,
    Example,
    ExemplarsPart,
    FrontierPoint,
    RateRow,
    Reliability,
    RulePart,
    RuleRow,
    SliceRow,
    SliceTable,
    SuggestedPart,
    SuggestedRow,
)
from auditsvc.compliance.report.wording import (
    Counts,
    Figure,
    Gap,
    Number,
    RuleStatus,
    Unit,
    amount,
    condition_order,
    facts,
    plain,
    plural,
    rule_words,
    unit_of,
)
from auditsvc.records import (
    OVERALL,
    Candidate,
    Digest,
    Evidence,
    Judgement,
    Measured,
    Metric,
    Moment,
    Rule,
    metric_of,
)
from auditsvc.records.evidence import DiscoveredSlices


def rule_status(judgement: Judgement) -> RuleStatus:
    """The status of a rule evaluation; a waiver never turns it into ``met``."""
    return "waived" if judgement.waiver and judgement.verdict != "met" else judgement.verdict


def count(statuses: Iterable[RuleStatus]) -> Counts:
    """Counts by status, without a total."""
    found = Counter(statuses)
    return Counts(met=found["met"], violated=found["violated"], unknown=found["unknown"], waived=found["waived"])


def slice_tables(readings: Readings) -> tuple[SliceTable, ...]:
    """One table for each condition, unmodified images first."""
    conditions = sorted(map(readings.condition, readings.conditions()), key=condition_order)
    return tuple(
        SliceTable(condition=one.name, title=one.words, rows=_slice_rows(one.name, readings)) for one in conditions
    )


def broken_cells(rules: Iterable[RulePart], tables: Iterable[SliceTable]) -> set[tuple[str, str]]:
    """Condition and slice of every loss that violates a blocking rule and is not waived."""
    losses = {f"drop.{table.condition}": table.condition for table in tables}
    return {
        (losses[row.metric], row.slice)
        for rule in rules
        for row in rule.rows
        if row.status == "violated" and rule.severity == "block" and row.metric in losses
    }


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
    for condition in map(readings.condition, readings.conditions()):
        if condition.family and condition.severity is not None:
            families.setdefault(condition.family, []).append((condition.severity, condition.name))
    topics = _family_topics(evidence)
    made = []
    for family, severities in families.items():
        known = readings.family(family)
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
        for name in dict.fromkeys(run.metric(reading.metric).condition for reading in run.readings):
            family = run.condition(name).family if name else None
            if family:
                found.setdefault(family, topic_title(run))
    return found


def _point(severity: float, condition: str, readings: Readings) -> CurvePoint:
    metric = f"score.{condition}"
    weakest, value = weakest_slice(metric, readings)
    return CurvePoint(
        severity=severity,
        condition=condition,
        title=readings.condition(condition).words,
        parent=readings.get(f"parent.{condition}", OVERALL),
        candidate=readings.get(metric, OVERALL),
        loss=readings.get(f"drop.{condition}", OVERALL),
        weakest=weakest,
        weakest_value=value,
    )


def weakest_slice(metric: str, readings: Readings, leave: Container[str] = ()) -> tuple[str, Figure]:
    """The group with the lowest upper interval end, except those in ``leave``; ``overall`` where there is none.

    The lowest estimate is often that of a small group and due to chance.
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
    """Every rule of the policy with all of its evaluations, those not met first."""
    alphas = {digest: run.key.alpha for digest, run in inputs.runs.items()}
    parts = []
    for rule in inputs.policy.rules:
        found = [judgement for judgement in inputs.decision.judgements if judgement.rule == rule.rule]
        rows = tuple(
            _rule_row(judgement, inputs.readings, alphas.get(judgement.evidence or "", inputs.policy.alpha))
            for judgement in sorted(found, key=_worst_first)
        )
        parts.append(
            RulePart.from_source(
                rule,
                sentence=_sentence(rule, found, inputs.readings),
                source=rule.sentence(),
                counts=count(row.status for row in rows),
                rows=rows,
            )
        )
    return tuple(parts)


def _sentence(rule: Rule, found: list[Judgement], readings: Readings) -> str:
    """The rule as a sentence with its condition or family of conditions."""
    metrics = [readings.metric(judgement.metric.rpartition("/")[2]) for judgement in found]
    metric = metrics[0] if metrics else metric_of(rule.metric)
    names = dict.fromkeys(one.condition for one in metrics if one.condition)
    if "*" not in rule.metric:
        return rule_words(rule, metric, readings.condition(metric.condition).words if metric.condition else "")
    families = {readings.condition(name).family for name in names}
    family = families.pop() if len(families) == 1 else None
    under = f"at every severity of “{readings.family(family).title}”" if family else "under every condition"
    return rule_words(rule, metric, under)


_STATUSES: tuple[RuleStatus, ...] = ("violated", "unknown", "waived", "met")


def _worst_first(judgement: Judgement) -> tuple[int, float]:
    """By status, then by the pessimistic end of the interval."""
    found = judgement.outcome
    end = 0.0
    if isinstance(found, Measured):
        end = found.low if judgement.bound == "at_least" else -found.high
    return _STATUSES.index(rule_status(judgement)), end


def _rule_row(judgement: Judgement, readings: Readings, alpha: float) -> RuleRow:
    metric = readings.metric(judgement.metric.rpartition("/")[2])
    own = unit_of(metric)
    unit: Unit = "points" if judgement.against and own != "plain" else own
    scored = metric.role in ("score", "parent", "loss") and metric.condition
    return RuleRow.from_source(
        judgement,
        metric=metric.id,
        title=readings.condition(metric.condition).words if scored and metric.condition else metric.title,
        status=rule_status(judgement),
        measured=_evaluated(judgement, metric, alpha, unit),
        unit=unit,
        message=judgement.words,
    )


def _evaluated(judgement: Judgement, metric: Metric, alpha: float, unit: Unit) -> Figure:
    if judgement.evidence is not None:
        found = figure_of(metric, judgement.outcome, judgement.evidence, alpha)
        return found.model_copy(update={"unit": unit}) if isinstance(found, Number) else found
    outcome = judgement.outcome
    reason = outcome.reason if outcome.state == "unmeasured" else "the value has no evidence and does not count"
    return Gap(reason=reason, images=outcome.images)


def evidence_index(inputs: ReportInputs, at: Moment) -> tuple[EvidenceRow, ...]:
    """One row for each run, in the given order."""
    return tuple(_evidence_row(digest, run, inputs.policy.max_age_days, at) for digest, run in inputs.runs.items())


def _evidence_row(digest: Digest, run: Evidence, max_age_days: int, at: Moment) -> EvidenceRow:
    until = expiry(run, max_age_days)
    return EvidenceRow.from_source(
        run.key,
        record=digest,
        topic=topic_title(run),
        parameters=facts(run.key.parameters),
        dataset=run.dataset.name + (f" (one stage; {run.dataset.images} in total)" if run.key.stage else ""),
        dataset_digest=run.dataset.digest,
        dataset_images=run.key.stage or run.dataset.images,
        dataset_source="; ".join((run.dataset.source, *(run.dataset.notes or ()))),
        dataset_licence=run.dataset.licence,
        environment=facts(run.environment),
        started=run.started,
        finished=run.finished,
        readings=len(run.readings),
        unmeasured=sum(reading.outcome.state == "unmeasured" for reading in run.readings),
        expires=until,
        expired=at.date() > until,
    )


def reliability(readings: Readings) -> Reliability | None:
    """The reliability diagram, where a check measured it."""
    candidate, parent = tuple(_bins("", readings)), tuple(_bins("parent_", readings))
    return Reliability(candidate=candidate, parent=parent) if candidate and parent else None


def _bins(whose: str, readings: Readings) -> Iterator[ConfidenceBin]:
    number = 1
    while True:
        names = (f"{whose}{kind}.bin@{number}" for kind in ("confidence", "accuracy"))
        confidence, accuracy = (readings.get(name, OVERALL) for name in names)
        if not isinstance(confidence, Number) or not isinstance(accuracy, Number):
            return
        yield ConfidenceBin(confidence=confidence, accuracy=accuracy)
        number += 1


_RATES = ("selection_rate", "tpr", "fpr")


def rates(readings: Readings) -> tuple[RateRow, ...]:
    """Selection rate, true positive rate and false positive rate of each group for which they were measured."""
    made = []
    for name in readings.slices("selection_rate"):
        own, parent = ([readings.get(prefix + kind, name) for kind in _RATES] for prefix in ("", "parent_"))
        if any(isinstance(figure, Number) for figure in own):
            made.append(
                RateRow(slice=name, candidate=(own[0], own[1], own[2]), parent=(parent[0], parent[1], parent[2]))
            )
    return tuple(made)


def frontier(inputs: ReportInputs) -> tuple[FrontierPoint, ...]:
    """Every decided candidate of this parent, largest first; empty where there is only this one."""
    own = Sibling(
        version=inputs.version,
        candidate=inputs.candidate,
        outcome=inputs.decision.outcome,
        evidence=next((run for run in inputs.evidence if _clean(run)), None),
    )
    others = [other for other in inputs.siblings if other.candidate.digest != inputs.candidate.digest]
    if not others:
        return ()
    points = (_rate_point(one, subject=one is own) for one in (own, *others))
    return tuple(sorted(points, key=lambda point: (-point.weights, point.version)))


def _clean(run: Evidence) -> bool:
    return any(reading.metric == "drop.clean" for reading in run.readings)


def _rate_point(one: Sibling, *, subject: bool) -> FrontierPoint:
    card = one.candidate.card
    return FrontierPoint(
        version=one.version,
        candidate=one.candidate.digest,
        recipe=_recipe(one.candidate),
        weights=card.get("nonzero", card.get("parameters", 0.0)),
        size=card.get("bytes_compressed", card.get("bytes_dense", 0.0)),
        outcome=one.outcome,
        subject=subject,
        score=_overall(one.evidence, "score.clean"),
        loss=_overall(one.evidence, "drop.clean"),
    )


def _recipe(candidate: Candidate) -> str:
    recipe = candidate.recipe
    return "not recorded" if recipe is None else f"{recipe.method}, {plain(recipe.targets)}"


def _overall(run: Evidence | None, metric: str) -> Figure:
    if run is None:
        return Gap(reason="no evidence on these images")
    return figure_of(run.metric(metric), run.reading(metric, OVERALL), run.digest, run.key.alpha)


def suggested(inputs: ReportInputs) -> SuggestedPart | None:
    """The groups suggested by slice discovery, where it was run."""
    found = inputs.suggestions
    if found is None:
        return None
    record = found.digest

    def number(outcome: Measured) -> Number:
        made = figure_of(metric_of("drop.clean"), outcome, record, found.alpha)
        if not isinstance(made, Number):
            raise TypeError("a suggested group must have measured losses")
        return made

    rows = (
        SuggestedRow(
            expression=one.expression,
            search_loss=number(one.found),
            held_out_loss=number(one.held),
            adjusted_p=one.adjusted,
        )
        for one in found.groups
    )
    return SuggestedPart(
        rows=tuple(rows),
        tested=found.tried,
        search_images=found.images_found,
        held_out_images=found.images_held,
        message=_suggestion_message(found),
        evidence=record,
    )


def _suggestion_message(found: DiscoveredSlices) -> str:
    if not found.groups:
        return f"Slice discovery tested {found.tried} groups and suggests none."
    return (
        f"Slice discovery tested {found.tried} groups on {found.images_found} of the images. Selection biases "
        "the loss on "
        f"these images upwards, so the loss on the {found.images_held} held-out images is given as well. "
        "Suggested groups "
        "do not affect the decision; to evaluate one, name it in a policy and use other images."
    )


def exemplars(inputs: ReportInputs, most: int = 12) -> ExemplarsPart | None:
    """The images that several seeds of the recipe change in the same way, where several seeds were run."""
    found = inputs.exemplars
    if found is None:
        return None
    message = (
        f"The majority of {len(found.candidates)} seeds of this recipe changes the answer for "
        f"{plural(found.changed, 'image')} of {found.images}: the parent is right on {found.parent_right} of these, "
        f"the majority on {found.candidates_right}. One seed changes {amount(found.churn, 'share')} of the answers on "
        f"average, and two seeds differ on {amount(found.noise, 'share')}: common changes are caused by pruning, the "
        f"others by chance."
    )
    return ExemplarsPart(message=message, rows=found.shown[:most], seeds=len(found.candidates), evidence=found.digest)


def related(inputs: ReportInputs) -> Mapping[Digest, str]:
    """Evidence of numbers in the report that is not the candidate's own, with a description of each."""
    own = set(inputs.runs)
    found = {one.evidence.digest: one.version for one in inputs.siblings if one.evidence is not None}
    named = {digest: f"version {version}" for digest, version in found.items() if digest not in own}
    if inputs.suggestions:
        named[inputs.suggestions.digest] = "suggested groups"
    if inputs.exemplars:
        named[inputs.exemplars.digest] = "several seeds of the recipe"
    return named


def examples(inputs: ReportInputs) -> tuple[Example, ...]:
    """One image under each condition that can be shown, by family and severity."""
    made = []
    for condition, data in inputs.examples.items():
        known = inputs.readings.condition(condition)
        if known.family is None or known.severity is None:
            continue
        title = known.words
        made.append(
            Example.from_source(
                known,
                condition=condition,
                title=title,
                media_type="image/jpeg" if data[:2] == b"\xff\xd8" else "image/png",
                data=base64.b64encode(data).decode("ascii"),
                alt=f"Test image {inputs.exampled}: {title}",
            )
        )
    return tuple(sorted(made, key=lambda one: (one.family, one.severity)))
