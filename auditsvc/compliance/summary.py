"""Page 1: three plain sentences, what was not tested, counts, and what is still open."""

from __future__ import annotations

from auditsvc.compliance.figures import Number
from auditsvc.compliance.inputs import Readings, ReportInputs, expiry
from auditsvc.compliance.model import OpenItem, Sentence, Summary
from auditsvc.compliance.parts import FlipCount
from auditsvc.compliance.sections import count, standing_of, weakest_slice
from auditsvc.compliance.topics import NEVER_TESTED, untested
from auditsvc.compliance.words import (
    SCORE_WORDS,
    amount,
    condition_words,
    full_text,
    interval_text,
    plural,
    short_text,
    slice_words,
)
from auditsvc.records import OVERALL, Judgement


def summarise(inputs: ReportInputs, readings: Readings, flips: tuple[FlipCount, ...]) -> Summary:
    """What a person who isn't technical should know first."""
    expiries = [expiry(run, inputs.policy.max_age_days) for run in inputs.evidence]
    small = _small(inputs, readings)
    return Summary(
        sentences=(_works(inputs, readings), _weakest(readings, small), _lost(inputs, readings, flips, small)),
        not_tested=_not_tested(inputs, small),
        counts=count(standing_of(judgement) for judgement in inputs.decision.judgements),
        open_items=_open_items(inputs),
        evidence_expires=min(expiries, default=None),
    )


def _works(inputs: ReportInputs, readings: Readings) -> Sentence:
    figure = readings.get("score.clean", OVERALL)
    if not isinstance(figure, Number):
        return Sentence(text=f"How well it works on unchanged images is not known: {figure.reason}.")
    words = SCORE_WORDS[inputs.candidate.task].format(full_text(figure))
    of_images = " of them" if inputs.candidate.task == "classification" else ""
    return Sentence(
        text=f"On {plural(figure.images, 'unchanged test image')} the candidate {words}{of_images}.",
        evidence=(figure.evidence,),
    )


def _weakest(readings: Readings, small: dict[str, int]) -> Sentence:
    group, figure = weakest_slice("score.clean", readings, small)
    parts, evidence = [], []
    if isinstance(figure, Number) and group != OVERALL:
        parts.append(f"for {group} ({plural(figure.images, 'image')}): {short_text(figure)}")
        evidence.append(figure.evidence)
    worst = _worst_condition(readings)
    if worst:
        condition, number = worst
        parts.append(f"under “{condition_words(condition)}”: {short_text(number)}")
        evidence.append(number.evidence)
    if not parts:
        return Sentence(text="Where it is weakest is not known: no group and no difficult condition was measured.")
    return Sentence(text=f"It is weakest {'; and '.join(parts)}.", evidence=tuple(dict.fromkeys(evidence)))


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
        return Sentence(text=f"What was lost against the parent is not known: {overall.reason}.")
    evidence = [overall.evidence]
    text = f"Against its parent it {_loss_words(overall)} overall"
    group, worst = _largest_loss(readings, small)
    if worst and worst.value > overall.value:
        text += f"; for {group} it {_loss_words(worst)}"
        evidence.append(worst.evidence)
    clean = next((flip for flip in flips if flip.condition == "clean"), None)
    if clean:
        if inputs.candidate.task == "classification":
            text += f". {plural(clean.broke, 'image')} that the parent had right {_are(clean.broke)} now wrong, "
            text += f"{clean.mended} the other way round"
        else:
            text += f". {plural(clean.broke, 'image')} {_are(clean.broke)} worse than with the parent, "
            text += f"{clean.mended} {_are(clean.mended)} better"
        evidence.append(clean.evidence)
    return Sentence(text=f"{text}.", evidence=tuple(dict.fromkeys(evidence)))


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _largest_loss(readings: Readings, small: dict[str, int]) -> tuple[str, Number | None]:
    """The group that surely lost most: by the smaller end of the interval, not by the estimate."""
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
    """The change in words, with its interval as a loss; an interval over zero is no proven change."""
    lost, interval = abs(figure.value), interval_text(figure)
    if amount(lost, figure.unit) == amount(0.0, figure.unit):
        return f"lost nothing that could be measured ({interval})"
    unclear = "" if figure.low > 0 or figure.high < 0 else ", which may be chance"
    verb = "lost" if figure.value >= 0 else "gained"
    note = "" if figure.value >= 0 else " as a loss"
    return f"{verb} {amount(lost, figure.unit)} ({interval}{note}{unclear})"


def _small(inputs: ReportInputs, readings: Readings) -> dict[str, int]:
    """Groups that nothing can be said about on unchanged images, with their size: not measured, or not judged."""
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
    topics = untested(inputs.evidence)
    if topics:
        lines.append(f"Not at all: {', '.join(topics)}.")
    if small:
        named = [f"{name} ({plural(images, 'image')})" for name, images in small.items()]
        more = f" and {len(named) - 6} more groups" if len(named) > 6 else ""
        lines.append(f"Too few images: {', '.join(named[:6])}{more}.")
    lines.append(f"No test can cover {', nor '.join(NEVER_TESTED)}.")
    return tuple(lines)


def _open_items(inputs: ReportInputs) -> tuple[OpenItem, ...]:
    """One item for each rule and standing, with every place where it does not hold."""
    groups: dict[tuple[str, str, str], list[Judgement]] = {}
    for finding in inputs.decision.findings:
        groups.setdefault((finding.rule, standing_of(finding), finding.severity), []).append(finding)
    return tuple(_open_item(found, inputs) for found in groups.values())


def _open_item(found: list[Judgement], inputs: ReportInputs) -> OpenItem:
    first = found[0]
    waiver = next((waiver for waiver in inputs.waivers if waiver.digest == first.waiver), None)
    several = len({judgement.metric for judgement in found}) > 1
    return OpenItem(
        rule=first.rule,
        standing=standing_of(first),
        severity=first.severity,
        where=tuple(dict.fromkeys(_place(judgement, several) for judgement in found)),
        words=first.words,
        owner=waiver.person if waiver else "",
        until=waiver.until if waiver else None,
    )


def _place(judgement: Judgement, several: bool) -> str:
    """The slice, and the condition where the rule has more than one."""
    condition = condition_words(judgement.metric.partition(".")[2])
    return f"{slice_words(judgement.slice)}, {condition}" if several else slice_words(judgement.slice)
