"""Numbers, conditions and terms in plain English.

Printed numbers are rounded for reading; the report model keeps them whole.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

from auditsvc.compliance.conditions import CURVE_WORDS, FAMILIES, METRIC_WORDS, POINTS, SHARES
from auditsvc.compliance.figures import Fact, Figure, Number, Unit
from auditsvc.records import EACH, OVERALL, Rule

NARROW = "\u00a0"

_CONDITION = re.compile(
    r"^(?P<family>[A-Za-z][A-Za-z0-9_.-]*)@(?P<severity>[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?P<unit>[A-Za-z]*)$"
)

SCORE_WORDS = {
    "classification": "gave the right answer for {}",
    "detection": "found and placed objects with a mean F1 of {}",
    "segmentation": "outlined objects with a mean overlap (IoU) of {}",
    "ocr": "read with a mean character accuracy of {}",
    "tracking": "followed objects with a mean score of {}",
}


def change_words(task: str) -> tuple[str, str, str]:
    """What happened to an answer: worse, better, neither, as columns are called."""
    if task == "classification":
        return "Right to wrong", "Wrong to right", "Wrong, but otherwise"
    return "Worse", "Better", "As good, but otherwise"


MEASURE_WORDS = {
    "classification": "share of right answers",
    "detection": "mean F1 per image at IoU 0.5",
    "segmentation": "mean IoU per image",
    "ocr": "mean character accuracy per image (1 − CER)",
    "tracking": "mean score per frame",
}


def metric_words(metric: str) -> str:
    """A metric that is no score under a condition, for a reader."""
    head, _, name = metric.partition(".")
    if name and head in CURVE_WORDS:
        title = FAMILIES[name].title if name in FAMILIES else name
        return f"{CURVE_WORDS[head]}, {title.lower()}"
    return METRIC_WORDS.get(metric, metric.replace(".", " ").replace("_", " "))


def is_score(metric: str) -> bool:
    """Whether a metric is a score, or a change of one, under a condition."""
    return metric.partition(".")[0] in {"score", "parent", "drop"}


def unit_of(metric: str) -> Unit:
    """How a metric is printed."""
    head = metric.partition(".")[0]
    if head in POINTS or metric.endswith("_difference"):
        return "points"
    return "share" if head in SHARES else "plain"


def amount(value: float, unit: Unit) -> str:
    """A number as it is printed: ``92.1 %``, ``1.4 points``, ``-38.2``."""
    if unit == "share":
        return f"{_minus(f'{value * 100:.1f}')}{NARROW}%"
    if unit == "points":
        return f"{_minus(f'{value * 100:.1f}')}{NARROW}points"
    return _minus(f"{value:.4g}")


def value_text(figure: Figure) -> str:
    """The value alone, or that there is none."""
    return amount(figure.value, figure.unit) if isinstance(figure, Number) else "not measured"


def interval_text(figure: Figure) -> str:
    """The interval alone: ``90.4 to 93.5``; a count or an exact value has none."""
    if not isinstance(figure, Number):
        return figure.reason
    if figure.low == figure.high:
        return "exact, no interval"
    low, high = (amount(end, figure.unit).partition(NARROW)[0] for end in (figure.low, figure.high))
    return f"{low} to {high}"


def full_text(figure: Figure) -> str:
    """Value and interval in one phrase for a sentence."""
    if not isinstance(figure, Number):
        return f"not measured ({figure.reason})"
    if figure.low == figure.high:
        return value_text(figure)
    return f"{value_text(figure)} ({figure.level * 100:.0f}{NARROW}% interval {interval_text(figure)})"


def short_text(figure: Figure) -> str:
    """Value and interval where the level of the interval was said before."""
    if not isinstance(figure, Number) or figure.low == figure.high:
        return full_text(figure)
    return f"{value_text(figure)} ({interval_text(figure)})"


def condition_parts(condition: str) -> tuple[str, float, str] | None:
    """Family, severity and unit of a condition such as ``exposure@-2EV``; None where it has no severity."""
    match = _CONDITION.match(condition)
    return (match["family"], float(match["severity"]), match["unit"]) if match else None


def condition_order(condition: str) -> tuple[bool, str, float]:
    """Sorts conditions: unchanged images first, then by family and severity."""
    family, severity, _ = condition_parts(condition) or (condition, 0.0, "")
    return (condition != "clean", family, severity)


def condition_words(condition: str) -> str:
    """A condition for a reader: ``hidden@0.25`` is ``25 % of the image hidden``."""
    if condition == "clean":
        return "images as they are"
    parts = condition_parts(condition)
    if parts is None:
        return condition.replace("_", " ")
    family, severity, unit = parts
    known = FAMILIES.get(family)
    if known is None:
        return f"{family.replace('_', ' ')} {_minus(f'{severity:g}')}{unit}"
    if known.signed:
        return known.words.format(signed(severity))
    return known.words.format(f"{severity * 100:.3g}" if known.per_cent else _minus(f"{severity:g}"))


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


def rule_words(rule: Rule) -> str:
    """A rule as a sentence without code words."""
    head, _, condition = rule.metric.partition(".")
    kinds = {"score": "The score", "drop": "The loss against the parent", "parent": "The parent's score"}
    what = kinds.get(head, f"{metric_words(rule.metric).capitalize()} (check {rule.check})")
    slices = (rule.slices,) if isinstance(rule.slices, str) else rule.slices
    groups = {OVERALL: "over all images", EACH: "for each group"}
    where = " and ".join(groups.get(name, f"for {name}") for name in slices)
    under = _rule_condition(condition) if head in kinds else ""
    bound = "at least" if rule.at_least is not None else "at most"
    few = f" A group of fewer than {rule.min_images} images is never judged." if rule.min_images > 1 else ""
    unit, less = unit_of(rule.metric), ""
    if rule.of:
        unit, less = ("plain" if unit == "plain" else "points"), " less that of the released candidate"
    return f"{what} {where}{under}{less} must be {bound} {amount(rule.limit, unit)}.{few}"


def _rule_condition(condition: str) -> str:
    family = condition.partition("@")[0]
    if condition == "clean":
        return ", images as they are,"
    if "*" not in condition:
        return f", {condition_words(condition)},"
    title = FAMILIES[family].title if family in FAMILIES else family.replace("*", "").replace("_", " ")
    return f", at every severity of “{title}”," if title else ", under every condition,"


def signed(value: float) -> str:
    """A number with its sign, a true minus sign included."""
    return _minus(f"{value:+g}") if value else "0"


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
