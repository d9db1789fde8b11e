"""Numbers, conditions and terms in plain English.

Printed numbers are rounded for reading; the report model keeps them whole.
"""

from __future__ import annotations

import datetime
import re

from auditsvc.compliance.model import Fact, Figure, Number, Unit

NARROW = "\u00a0"

_CONDITION = re.compile(r"^(?P<family>[A-Za-z][A-Za-z0-9_.-]*)@(?P<severity>[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?P<unit>[A-Za-z]*)$")

FAMILIES: dict[str, tuple[str, str, float | None]] = {
    "exposure": ("Exposure", "exposure in stops (EV), 0 is the photo as it is", 0.0),
    "gamma": ("Gamma", "gamma, 1 is the photo as it is", 1.0),
    "hidden": ("Part of the image hidden", "share of the image hidden", 0.0),
    "fgsm": ("One-step attack (FGSM)", "attack budget in 1/255 of the brightness range", 0.0),
    "pgd": ("Step-by-step attack (PGD)", "attack budget in 1/255 of the brightness range", 0.0),
    "apgd": ("Adaptive attack (Auto-PGD)", "attack budget in 1/255 of the brightness range", 0.0),
    "square": ("Black-box attack (Square)", "attack budget in 1/255 of the brightness range", 0.0),
    "autoattack": ("Attack ensemble (AutoAttack)", "attack budget in 1/255 of the brightness range", 0.0),
    "jpeg": ("JPEG compression", "JPEG quality", None),
    "blur": ("Blur", "blur radius in pixels", 0.0),
    "noise": ("Noise", "standard deviation of the noise", 0.0),
}
"""For a family of conditions: its title, the words of its axis, and the severity at which nothing is changed."""

SCORE_WORDS = {
    "classification": "gave the right answer for {}",
    "detection": "found and placed objects with a mean F1 of {}",
    "segmentation": "outlined objects with a mean overlap (IoU) of {}",
    "ocr": "read with a mean character accuracy of {}",
    "tracking": "followed objects with a mean score of {}",
}

MEASURE_WORDS = {
    "classification": "share of right answers",
    "detection": "mean F1 per image at IoU 0.5",
    "segmentation": "mean IoU per image",
    "ocr": "mean character accuracy per image (1 − CER)",
    "tracking": "mean score per frame",
}


def unit_of(metric: str) -> Unit:
    """How a metric is printed."""
    head = metric.partition(".")[0]
    if head in {"score", "parent"}:
        return "share"
    if head == "drop":
        return "points"
    return "plain"


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


def condition_parts(condition: str) -> tuple[str, float, str] | None:
    """Family, severity and unit of a condition such as ``exposure@-2EV``; None where it has no severity."""
    match = _CONDITION.match(condition)
    return (match["family"], float(match["severity"]), match["unit"]) if match else None


def condition_words(condition: str) -> str:
    """A condition for a reader: ``hidden@0.25`` is ``25 % of the image hidden``."""
    if condition == "clean":
        return "images as they are"
    parts = condition_parts(condition)
    if parts is None:
        return condition.replace("_", " ")
    family, severity, unit = parts
    if family == "hidden":
        return f"{severity * 100:.3g}{NARROW}% of the image hidden"
    if family == "exposure":
        return f"exposure {signed(severity)}{NARROW}EV"
    if FAMILIES.get(family, ("", "", None))[1].startswith("attack budget"):
        return f"{FAMILIES[family][0].lower()} at {severity:g}/255" if family not in _NAMED else f"{_NAMED[family]} at {severity:g}/255"
    title = FAMILIES[family][0] if family in FAMILIES else family.replace("_", " ")
    return f"{title.lower() if family in FAMILIES and family != 'jpeg' else title} {_minus(f'{severity:g}')}{unit}"


_NAMED = {"pgd": "PGD attack", "fgsm": "FGSM attack", "apgd": "Auto-PGD attack", "square": "Square attack", "autoattack": "AutoAttack"}


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


GLOSSARY: tuple[Fact, ...] = (
    Fact(label="Candidate", value="The pruned model that asks for release: one exact set of files, named by its digest."),
    Fact(label="Condition", value="A change made to every image before both models see it, such as less light or a hidden part."),
    Fact(label="Digest", value="A fingerprint of a file or record. If one bit changes, so does the digest."),
    Fact(label="Evidence", value="The stored result of one run of one check, with all that is needed to run it again."),
    Fact(label="Interval", value="The range in which the true value is expected, given how few or many images were tested. Rules are judged by its worse end."),
    Fact(label="Met, violated, unknown", value="A rule holds even at the worse end of the interval; it does not; or too little is known to say. Unknown blocks a release like violated does."),
    Fact(label="Parent", value="The model before pruning. Every image was shown to both models."),
    Fact(label="Points", value="Percentage points: from 95 % to 92 % is a loss of 3 points."),
    Fact(label="Pruning", value="Removing weights from a model so that it is smaller or faster."),
    Fact(label="Slice", value="A named group of the test images, for instance all photos of women."),
    Fact(label="Waiver", value="A named person takes one rule that does not hold upon themselves, with a reason and an end date. It is not a pass."),
    Fact(label="Watermark", value="A hidden mark in the weights that lets the owner recognise the model. It says nothing about its quality."),
)
"""Terms that the report uses."""
