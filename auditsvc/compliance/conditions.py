"""What conditions and metrics are called for a reader, and where nothing is changed.

A family that is not listed here is printed under its own name; only a family with a known neutral severity gets
the unchanged images as a point of its curve.
"""

from __future__ import annotations

from dataclasses import dataclass


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
