"""What a metric means, declared by the check that measures it.

A reading alone is a name and a number.  To print it with its unit, to test it as a loss, to plan for it or to draw it
on an axis, a reader needs its declaration.  A check gives one ``Metric`` for each of its metrics, one ``Condition`` for
each condition that it compares under and one ``Family`` for each series of conditions; they are stored with the
evidence, so that a decision can be computed again from records alone, without the code of the check.

Evidence from before declarations existed has none.  ``metric_of`` and ``condition_of`` then infer from the name what
the name meant at that time; nothing else in the package interprets a metric's name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property, lru_cache
from typing import Annotated, Literal

from pydantic import Field

from auditsvc.records.base import Text, Value

MetricKind = Literal["proportion", "difference", "ratio", "p_value", "count", "quantity"]
"""``proportion``: a share of images, each of which counts or does not; ``ratio``: any other quotient, such as an error
rate or a mean IoU; ``difference``: of two shares; ``p_value``: also its logarithm."""

Role = Literal["score", "parent", "loss", "change"]
"""``score`` and ``parent``: the mean score per image of the candidate and of its parent; ``loss``: how much worse the
candidate is than its parent, tested against no loss; ``change``: another signed difference from the parent."""

MetricId = Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9._@+-]*$", max_length=100)]


class Condition(Value):
    """What was done to the images while a metric was measured.

    ``words`` name it for a reader: ``25 % of the image hidden``.  ``severity`` is its place on the axis of ``family``.
    """

    name: Annotated[str, Field(min_length=1, max_length=100)]
    words: Text
    family: str | None = None
    severity: float | None = None


CLEAN_CONDITION = Condition(name="clean", words="unmodified images")
"""The condition in which nothing is done to the images."""


class Family(Value):
    """Conditions that differ in one number, the severity.

    ``words`` is the text for one condition, with ``{}`` for the severity; ``neutral`` is the severity at which nothing
    changes, if there is one; ``suffix`` is the unit in the conditions' names: ``EV`` in ``exposure@-2EV``.
    """

    name: str
    title: Text
    axis: Text
    words: Text
    neutral: float | None = 0.0
    signed: bool = False
    percent: bool = False
    suffix: str = ""

    def condition(self, severity: float) -> Condition:
        """The condition of this severity.

        Example: ``Family(name="gamma", ..., words="gamma {}").condition(0.5).name`` is ``gamma@0.5``.
        """
        shown = f"{severity:+g}" if self.signed and severity else f"{severity:g}"
        number = f"{severity * 100:.3g}" if self.percent else shown
        return Condition(
            name=f"{self.name}@{severity:{'+' if self.signed else ''}g}{self.suffix}",
            words=self.words.format(number.replace("-", "−")),
            family=self.name,
            severity=severity,
        )


class Metric(Value):
    """One metric: how to read, print, judge and plan its number.

    ``unit`` is ``%`` for a share of 1 that is printed in per cent, ``points`` for a difference of two such shares, or
    any other unit, empty for none.  ``condition`` names the condition that it is measured under, where that is one of
    the check's conditions.  ``plannable``: the number of images that a rule about it needs can be computed beforehand.
    ``counts`` is what its sample size counts, in the singular, where that is not images; ``exact`` for no sample.
    """

    id: MetricId
    kind: MetricKind
    unit: str = ""
    better: Literal["lower", "higher"]
    title: Text
    role: Role | None = None
    condition: str | None = None
    plannable: bool = False
    counts: str | None = None

    def text(self, value: float) -> str:
        """The number as it is printed, without its unit: ``92.1``, ``+1.4``, ``-38.2``."""
        if self.unit == "points":
            return f"{100 * value:{'+' if self.role in ('loss', 'change') else ''}.1f}"
        return f"{100 * value:.1f}" if self.unit == "%" else f"{value:.4g}"

    def difference(self) -> Metric:
        """What the difference of two values of this metric is: of shares, points; else in the metric's own unit."""
        unit = "points" if self.unit in ("%", "points") else self.unit
        return self.model_copy(update={"kind": "difference", "unit": unit, "role": "change", "plannable": False})


class Declarations(Value):
    """Everything that a check declares about what it measures, with its parameters.

    ``topics`` are kinds of evidence from the frameworks' vocabulary (``robust.occlusion``): what a report may say that
    this evidence covers.
    """

    topics: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()
    conditions: tuple[Condition, ...] = ()
    families: tuple[Family, ...] = ()

    @cached_property
    def metric_by_id(self) -> dict[str, Metric]:
        """The metrics by their ids."""
        return {metric.id: metric for metric in self.metrics}

    @cached_property
    def condition_by_name(self) -> dict[str, Condition]:
        """The conditions by their names."""
        return {condition.name: condition for condition in self.conditions}


def paired_metrics(conditions: Iterable[Condition]) -> tuple[Metric, ...]:
    """What a comparison under these conditions gives: ``score.C``, ``parent.C`` and ``drop.C`` for each condition."""
    known = tuple(conditions)
    return (
        *(
            Metric(id=f"score.{one.name}", kind="proportion", unit="%", better="higher", role="score", plannable=True,
                   title=f"score, {one.words}", condition=one.name)
            for one in known
        ),
        *(
            Metric(id=f"parent.{one.name}", kind="proportion", unit="%", better="higher", role="parent",
                   title=f"the parent's score, {one.words}", condition=one.name)
            for one in known
        ),
        *(
            Metric(id=f"drop.{one.name}", kind="difference", unit="points", better="lower", role="loss", plannable=True,
                   title=f"loss against the parent, {one.words}", condition=one.name)
            for one in known
        ),
    )  # fmt: skip


_OLD_PROPORTIONS = frozenset(
    ("score", "parent", "flips", "bits", "lost", "won", "churn", "missed", "alarm", "parent_missed", "parent_alarm",
     "right", "parent_right", "selection", "tpr", "fpr", "parent_selection", "parent_tpr", "parent_fpr")
)  # fmt: skip
_OLD_RATIOS = frozenset(
    ("calibration_error", "parent_calibration_error", "selective_risk", "parent_selective_risk", "told", "parent_told",
     "area", "parent_area", "recall", "precision", "iou", "cer", "exact", "parent_recall", "parent_precision",
     "parent_iou", "parent_cer", "parent_exact")
)  # fmt: skip
_OLD_CHANGES = frozenset(
    ("rise", "area_loss", "calibration_change", "selective_change", "confidence_change", "accuracy_cost")
)
_OLD_ROLES: dict[str, Role] = {"score": "score", "parent": "parent", "drop": "loss"}


@lru_cache(4096)
def metric_of(name: str) -> Metric:
    """What the name of a metric, or a rule's pattern, says by itself: for evidence without declarations, and for rules
    whose check gave none at all.

    The names are those that were in use before checks declared their metrics; any other is a plain quantity.
    """
    head, _, rest = name.partition(".")
    kind: MetricKind = "quantity"
    unit, role = "", _OLD_ROLES.get(head)
    compared = role is not None
    if head in _OLD_PROPORTIONS:
        kind, unit = "proportion", "%"
    elif head in _OLD_RATIOS:
        kind, unit = "ratio", "%"
    elif head == "drop" or head in _OLD_CHANGES:
        kind, unit, role = "difference", "points", role or "change"
    elif name.endswith("_difference"):
        kind, unit = "difference", "points"
    return Metric.model_construct(
        id=name,
        kind=kind,
        unit=unit,
        better="higher" if role in ("score", "parent") else "lower",
        title=name.replace(".", " ").replace("_", " "),
        role=role,
        condition=rest if compared and ("@" in rest or rest == CLEAN_CONDITION.name) else None,
        plannable=False,
    )


_WITH_SEVERITY = re.compile(r"^(?P<family>[A-Za-z][A-Za-z0-9_.-]*)@(?P<severity>[+-]?\d+(?:\.\d+)?(?:e[+-]?\d+)?)"
                            r"(?P<unit>[A-Za-z]*)$")  # fmt: skip


def condition_of(name: str) -> Condition:
    """What the name of a condition says by itself: ``jpeg@20`` has the family ``jpeg`` and the severity 20."""
    if name == CLEAN_CONDITION.name:
        return CLEAN_CONDITION
    match = _WITH_SEVERITY.match(name)
    if match is None:
        return Condition(name=name, words=name.replace("_", " "))
    severity = float(match["severity"])
    number = f"{severity:g}".replace("-", "−")
    words = f"{match['family'].replace('_', ' ')} {number}{match['unit']}"
    return Condition(name=name, words=words, family=match["family"], severity=severity)
