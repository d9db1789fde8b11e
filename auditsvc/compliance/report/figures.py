"""Numbers in a report: a figure with its interval and its evidence, or a gap and why."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from auditsvc.records import Digest, Value

Unit = Literal["share", "points", "plain"]
"""``share``: a fraction, printed in per cent; ``points``: a difference of two shares; ``plain``: as it is."""


Standing = Literal["met", "violated", "unknown", "waived"]
"""A verdict as it is drawn: a waived one is never drawn as met."""


class Number(Value):
    """A measured value with its interval; ``level`` is the share of such intervals that hold the truth."""

    state: Literal["measured"] = "measured"
    value: float
    low: float
    high: float
    images: int
    level: float
    unit: Unit
    evidence: Digest


class Gap(Value):
    """No number, and why."""

    state: Literal["unmeasured"] = "unmeasured"
    reason: str
    images: int = 0
    evidence: Digest | None = None


Figure = Annotated[Number | Gap, Field(discriminator="state")]


class Counts(Value):
    """How many rule lines stand how; never added up to a score."""

    met: int
    violated: int
    unknown: int
    waived: int


class Fact(Value):
    """A label and what stands behind it."""

    label: str
    value: str
