"""How a report represents and prints values, conditions, rules and dates.

A value is a number with its interval, number of images and evidence, or a gap with its reason.  Printed numbers are
rounded; the report model has full precision.  The names of metrics, conditions and axes are those that the checks
declare in the evidence.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from auditsvc.records import CLEAN_CONDITION, EACH, OVERALL, Condition, Digest, Metric, Rule, Value

Unit = Literal["share", "points", "plain"]
"""``share``: a fraction, printed in per cent; ``points``: a difference of two shares; ``plain``: as it is."""


RuleStatus = Literal["met", "violated", "unknown", "waived"]
"""The verdict of a rule evaluation, or ``waived`` where a waiver covers one that is not met."""


class Number(Value):
    """A measured value with its interval; ``level`` is the confidence level."""

    state: Literal["measured"] = "measured"
    value: float
    low: float
    high: float
    images: int
    level: float
    unit: Unit
    evidence: Digest
    which: str = ""
    """The class or group that the value is about, where a metric is the worst of several."""
    clusters: int | None = None
    design_effect: float | None = None
    """How many clusters the images are of, and what that multiplies the variance by."""


class Gap(Value):
    """A value that was not measured, and the reason."""

    state: Literal["unmeasured"] = "unmeasured"
    reason: str
    images: int = 0
    evidence: Digest | None = None


Figure = Annotated[Number | Gap, Field(discriminator="state")]


class Counts(Value):
    """The number of rule evaluations by status; never summed to a score."""

    met: int
    violated: int
    unknown: int
    waived: int


class Fact(Value):
    """A label and its value."""

    label: str
    value: str


NARROW = "\u00a0"


class _ByTask(dict[str, str]):
    """Text by task; a task of a plug-in uses the text of ``other``."""

    def __missing__(self, task: str) -> str:
        return self["other"]


SCORE_WORDS = _ByTask({
    "other": "has a mean score of {}",
    "classification": "has an accuracy of {}",
    "detection": "has a mean F1 of {}",
    "segmentation": "has a mean overlap (IoU) of {}",
    "ocr": "has a mean character accuracy of {}",
    "tracking": "has a mean score of {}",
})  # fmt: skip


def change_words(task: str) -> tuple[str, str, str]:
    """Column headings for changed answers: worse, better, neither."""
    if task == "classification":
        return "Right to wrong", "Wrong to right", "Wrong to another wrong answer"
    return "Worse", "Better", "Changed, score unchanged"


MEASURE_WORDS = _ByTask({
    "other": "mean score per image",
    "classification": "accuracy",
    "detection": "mean F1 per image at IoU 0.5",
    "segmentation": "mean IoU per image",
    "ocr": "mean character accuracy per image (1 − CER)",
    "tracking": "mean score per frame",
})  # fmt: skip


def unit_of(metric: Metric) -> Unit:
    """How a metric is printed."""
    units: dict[str, Unit] = {"%": "share", "points": "points"}
    return units.get(metric.unit, "plain")


def amount(value: float, unit: Unit) -> str:
    """A number as it is printed: ``92.1 %``, ``1.4 points``, ``-38.2``."""
    if unit == "share":
        return f"{_minus(f'{value * 100:.1f}')}{NARROW}%"
    if unit == "points":
        return f"{_minus(f'{value * 100:.1f}')}{NARROW}points"
    return _minus(f"{value:.4g}")


def value_text(figure: Figure) -> str:
    """The value without its interval, with the class or group that it is of; or ``not measured``."""
    if not isinstance(figure, Number):
        return "not measured"
    return amount(figure.value, figure.unit) + (f" for {figure.which}" if figure.which else "")


def interval_text(figure: Figure) -> str:
    """The interval alone: ``90.4 to 93.5``; a count or an exact value has none."""
    if not isinstance(figure, Number):
        return figure.reason
    if figure.low == figure.high:
        return "exact, no interval"
    low, high = (amount(end, figure.unit).partition(NARROW)[0] for end in (figure.low, figure.high))
    if figure.clusters is None or figure.clusters == figure.images:
        return f"{low} to {high}"
    return f"{low} to {high}; {figure.clusters} clusters, design effect {figure.design_effect or 1:.1f}"


def full_text(figure: Figure) -> str:
    """Value and interval in one phrase for a sentence."""
    if not isinstance(figure, Number):
        return f"not measured ({figure.reason})"
    if figure.low == figure.high:
        return value_text(figure)
    return f"{value_text(figure)} ({figure.level * 100:.0f}{NARROW}% interval {interval_text(figure)})"


def short_text(figure: Figure) -> str:
    """Value and interval without the confidence level."""
    if not isinstance(figure, Number) or figure.low == figure.high:
        return full_text(figure)
    return f"{value_text(figure)} ({interval_text(figure)})"


def condition_order(condition: Condition) -> tuple[bool, str, float]:
    """Sorts conditions: unmodified images first, then by family and severity."""
    return (condition.name != CLEAN_CONDITION.name, condition.family or condition.name, condition.severity or 0.0)


def plain(value: object) -> str:
    """A stored value in one line; names in alphabetical order, because a record keeps no other."""
    if isinstance(value, float) and value.is_integer():
        return f"{value:,.0f}".replace(",", "\u202f")
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(inner)}" for key, inner in sorted(value.items())) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(plain(inner) for inner in value) or "none"
    return str(value)


def labelled(pairs: Mapping[str, object]) -> tuple[Fact, ...]:
    """Facts in the order given."""
    return tuple(Fact(label=label, value=plain(value)) for label, value in pairs.items())


def facts(pairs: Mapping[str, object]) -> tuple[Fact, ...]:
    """Facts of a record, in alphabetical order: the order in memory is not that of the ledger."""
    return labelled(dict(sorted(pairs.items())))


def slice_words(name: str) -> str:
    """A slice for a reader."""
    return "all images" if name == OVERALL else name


def rule_words(rule: Rule, metric: Metric, under: str = "") -> str:
    """A rule as a sentence: about ``metric``, the first that it evaluates, ``under`` these conditions."""
    kinds = {"score": "The score", "loss": "The loss against the parent", "parent": "The score of the parent"}
    scored = metric.role in kinds and metric.condition is not None
    what = kinds[metric.role or ""] if scored else f"{metric.title[:1].upper()}{metric.title[1:]} (check {rule.check})"
    slices = (rule.slices,) if isinstance(rule.slices, str) else rule.slices
    groups = {OVERALL: "over all images", EACH: "for each group"}
    where = " and ".join(groups.get(name, f"for {name}") for name in slices)
    bound = "at least" if rule.at_least is not None else "at most"
    few = (
        f" A group of fewer than {rule.min_images} images can fail, never pass: it is unknown unless even the "
        "favourable end of its interval breaks the limit."
    )
    unit, less = unit_of(metric), ""
    if rule.of:
        unit, less = ("plain" if unit == "plain" else "points"), " minus that of the released candidate"
    note = few if rule.min_images > 1 else ""
    conditions = f", {under}," if scored and under else ""
    return f"{what} {where}{conditions}{less} must be {bound} {amount(rule.limit, unit)}.{note}"


def day(moment: datetime.date) -> str:
    """``22 November 2026``."""
    return f"{moment.day} {moment:%B %Y}"


def minute(moment: datetime.datetime) -> str:
    """``22 November 2026, 15:27 UTC``."""
    moment = moment.astimezone(datetime.UTC)
    return f"{day(moment)}, {moment:%H:%M} UTC"


def plural(count: int, one: str, many: str = "") -> str:
    """``1 image``, ``8 images``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}".replace(",", "\u202f")


def _minus(text: str) -> str:
    return text.replace("-", "−") if text.strip("-0.") else text.lstrip("-")


_COUNTS = {"macs": "Multiply-accumulates (MACs)", "nonzero": "Nonzero weights", "nonzeros": "Nonzero weights",
           "bytes_dense": "Bytes, dense", "bytes_compressed": "Bytes, compressed"}  # fmt: skip


def count_title(name: str) -> str:
    """The title of what a candidate's card counts."""
    return _COUNTS.get(name) or name.replace("_", " ").capitalize()


def sentence_case(text: str) -> str:
    """The text with its first letter as a capital; the others stay (``PGD attack``)."""
    return text[:1].upper() + text[1:]
