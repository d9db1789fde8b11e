"""Numbers, conditions and terms in plain English.

Printed numbers are rounded for reading; the report model keeps them whole.

What conditions and metrics are called for a reader, and where nothing is changed.

A family that is not listed here is printed under its own name; only a family with a known neutral severity gets
the unchanged images as a point of its curve.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass

from auditsvc.compliance.report.figures import Fact, Figure, Number, Unit
from auditsvc.records import EACH, OVERALL, Rule


@dataclass(frozen=True)
class Family:
    """Conditions that differ in one number.  ``neutral`` is the number at which nothing is changed, if there is one."""

    title: str
    axis: str
    words: str
    neutral: float | None = 0.0
    signed: bool = False
    per_cent: bool = False


_BUDGET = "attack budget in 1/255 of the brightness range"
_LENGTH = "attack budget, length of the change of the image"
_AREA = "share of the image hidden"
_STOPS = "stops (EV)"


def _attack(title: str, name: str) -> Family:
    return Family(title, _BUDGET, f"{name} at {{}}/255")


def _long_attack(title: str, name: str) -> Family:
    return Family(f"{title}, by length", _LENGTH, f"{name} of length {{}}")


def _cover(title: str, how: str) -> Family:
    return Family(title, _AREA, f"{{}}\u00a0% of the image hidden{how}", per_cent=True)


_ATTACKS = {
    "fgsm": ("One-step attack (FGSM)", "FGSM attack"),
    "pgd": ("Step-by-step attack (PGD)", "PGD attack"),
    "apgd": ("Adaptive attack (Auto-PGD)", "Auto-PGD attack"),
    "square": ("Attack without gradients (Square)", "Square attack"),
    "minimal": ("Smallest change that misleads", "smallest-change attack"),
    "autoattack": ("Attack ensemble (AutoAttack)", "AutoAttack"),
}

FAMILIES: dict[str, Family] = {
    "exposure": Family(
        "Exposure", "exposure in stops (EV), 0 is the photo as it is", "exposure {}\u00a0EV", signed=True
    ),
    "lowlight": Family("Low light with sensor noise", _STOPS, "low light {}\u00a0EV", signed=True),
    "gamma": Family("Gamma", "gamma, 1 is the photo as it is", "gamma {}", neutral=1.0),
    "kelvin": Family("Colour of the lamp", "colour temperature in kelvin", "a lamp of {}\u00a0K", neutral=None),
    "shadow": Family("A shadow across", f"depth in {_STOPS}", "a shadow of {}\u00a0EV"),
    "uneven": Family("Uneven light", f"difference in {_STOPS}", "uneven light of {}\u00a0EV"),
    "glare": Family("Glare", "times white", "glare {} times white", neutral=None),
    "backlight": Family("Light from behind", _STOPS, "light from behind, {}\u00a0EV"),
    "flicker": Family("Flicker", "depth", "flicker of depth {}"),
    "hidden": _cover("Part of the image hidden", ""),
    "cells": _cover("Cells of a grid hidden", ", in cells"),
    "texture": _cover("Part of the image shuffled", " by its own texture"),
    "object": _cover("A round thing in front", " by a round thing"),
    "edge": _cover("An edge hidden", " at an edge"),
    "worst": _cover("The worst place hidden", " at the worst place"),
    **{name: _attack(*words) for name, words in _ATTACKS.items()},
    **{f"{name}-l2": _long_attack(*words) for name, words in _ATTACKS.items()},
    "transfer": _attack("Attack made on the other model", "transferred attack"),
    "patch": Family("A patch made to mislead", "share of the image", "a misleading patch on {}\u00a0%", per_cent=True),
    "spatial": Family("Turned and shifted", "degrees", "turned by up to {}°"),
    "jpeg": Family("JPEG compression", "JPEG quality", "JPEG quality {}", neutral=None),
    "darker": Family("Darker", _STOPS, "{} stops darker"),
    "brighter": Family("Brighter", _STOPS, "{} stops brighter"),
}
"""By the name before the ``@``; ``darker`` and ``brighter`` are the names of curves."""

POINTS = frozenset(
    {"drop", "rise", "area_loss", "calibration_change", "selective_change", "confidence_change", "accuracy_cost"}
)
"""What stands before the dot of metrics that are differences of shares."""

SHARES = frozenset(
    {"score", "parent", "area", "parent_area", "missed", "alarm", "parent_missed", "parent_alarm", "flips", "bits",
     "lost", "won", "churn", "calibration_error", "parent_calibration_error", "selective_risk",
     "parent_selective_risk", "told", "right", "parent_told", "parent_right", "selection", "tpr", "fpr",
     "parent_selection", "parent_tpr", "parent_fpr", "recall", "precision", "iou", "cer", "exact", "parent_recall",
     "parent_precision", "parent_iou", "parent_cer", "parent_exact"}
)  # fmt: skip
"""What stands before the dot of metrics that are fractions of 1."""

CURVE_WORDS = {
    "area": "mean over the whole curve",
    "parent_area": "the parent's mean over the whole curve",
    "area_loss": "loss over the whole curve",
    "breaking": "severity at which the floor breaks",
    "parent_breaking": "severity at which the parent's floor breaks",
    "missed": "missed",
    "alarm": "false alarms",
    "parent_missed": "missed by the parent",
    "parent_alarm": "false alarms of the parent",
}
"""What stands before the dot of metrics of a whole curve, or of one kind of error."""

METRIC_WORDS = {
    "log10_p": "the chance that an unmarked model looks like this (as a power of ten)",
    "bits": "the share of the mark's bits that were read right",
    "flips": "the share of answers that the mark changed",
    "accuracy_cost": "the accuracy that the mark cost",
    "lost": "right answers that became wrong",
    "won": "wrong answers that became right",
    "churn": "answers that changed",
    "calibration_error": "how far confidence is from how often it is right",
    "parent_calibration_error": "how far the parent's confidence is from how often it is right",
    "calibration_change": "how much worse confidence fits than the parent's",
    "confidence_change": "how much surer it is than its parent",
    "selective_risk": "errors among the answers kept, over all shares kept",
    "parent_selective_risk": "the parent's errors among the answers kept",
    "selective_change": "more errors among the answers kept than the parent's",
    "selection_difference": "how far groups differ in how often a class is said",
    "tpr_difference": "how far groups differ in how often a class is found",
    "fpr_difference": "how far groups differ in false alarms",
    "equalised_odds_difference": "how far groups differ in errors of either kind",
    "demographic_parity_ratio": "least over greatest rate of a class being said",
    "recall": "the share of objects that are found",
    "precision": "the share of answers that find an object",
    "iou": "the overlap of regions, pooled over all images (mean IoU)",
    "cer": "errors for each character of the text (CER)",
    "exact": "the share of texts without an error",
    "drop.recall": "the share of objects that are found no more",
    "drop.precision": "fewer answers that find an object",
    "drop.iou": "overlap of regions that is lost",
    "drop.exact": "texts that are read without an error no more",
    "rise.cer": "more errors for each character of the text",
    "drop.worst_class": "the largest loss of any one class",
    "recall_difference": "how far groups differ in objects that are found",
    "precision_difference": "how far groups differ in answers that find an object",
    "iou_difference": "how far groups differ in the overlap of regions",
    "cer_difference": "how far groups differ in errors for each character",
    "exact_difference": "how far groups differ in texts without an error",
}
"""Metrics without a dot."""


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
