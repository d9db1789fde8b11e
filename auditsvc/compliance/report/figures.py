"""Values in a report: a number with its interval and evidence, or a gap with its reason.

A number cannot be printed without its interval, its number of images and its evidence, because it has no other form.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from auditsvc.records import Digest, Value

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
