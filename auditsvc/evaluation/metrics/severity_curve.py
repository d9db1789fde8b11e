"""Accuracy against severity: the area under the curve, and the severity at which a floor is broken.

One severity says little: two models can meet there and part before it.  The area is taken image by image, so it
is paired and can be sliced like any other score; the untouched images are the curve's first point.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from auditsvc.datasets.dataset import Slices
from auditsvc.evaluation.check import Check
from auditsvc.evaluation.context import CLEAN, Disturbance, EvalContext
from auditsvc.evaluation.intervals import Interval
from auditsvc.evaluation.paired import Pair, Predictions, Sample, error_metrics, levels, losses, measured
from auditsvc.records import Condition, Family, Metric, Reading, paired_metrics


@dataclass(frozen=True)
class Curve:
    """Pairs in the order of their ``severities``, which grow away from 0, the untouched images.

    ``floor`` is the score that must hold; with ``relative`` it is that share of each slice's untouched score.
    """

    name: str
    severities: tuple[float, ...]
    pairs: Sequence[Pair]
    floor: float
    relative: bool = False


def curve_metrics(name: str, title: str, unit: str = "") -> tuple[Metric, ...]:
    """The metrics of one curve, in the order of ``curve_readings``; ``unit`` is that of the severities."""
    about = f", {title.lower()}"
    return (
        Metric(id=f"area.{name}", kind="ratio", unit="%", better="higher", title=f"mean over the whole curve{about}"),
        Metric(id=f"parent_area.{name}", kind="ratio", unit="%", better="higher",
               title=f"the parent's mean over the whole curve{about}"),
        Metric(id=f"area_loss.{name}", kind="difference", unit="points", better="lower", role="loss",
               title=f"loss over the whole curve{about}"),
        Metric(id=f"failure_severity.{name}", kind="quantity", unit=unit, better="higher",
               title=f"severity at which the score falls below the floor{about}"),
        Metric(id=f"parent_failure_severity.{name}", kind="quantity", unit=unit, better="higher",
               title=f"severity at which the parent's floor breaks{about}"),
    )  # fmt: skip


def curve_readings(case: EvalContext, curve: Curve) -> Iterator[Reading]:
    """On every slice: ``area`` and ``failure_severity`` of the candidate, the same of the parent, and ``area_loss``.

    ``area`` is the mean score over severity from 0 to the largest, by the trapezoidal rule; in 0..1.
    ``failure_severity`` is in the unit of the severities: where the score, interpolated, first falls below the floor;
    its ends are where the interval's ends do.  A curve that stays above the floor gives the largest severity, which
    then is a lower bound.
    """
    clean, slices = case.pair(CLEAN), case.dataset.slices
    chosen = curve.pairs[0].chosen
    steps = np.diff(np.array((0.0, *np.abs(curve.severities))))
    scores_of = {}
    for kind in ("candidate", "parent"):
        first: Predictions = getattr(clean, kind)
        answers = [first if chosen is None else first[chosen], *(getattr(pair, kind) for pair in curve.pairs)]
        scores_of[kind] = [item["score"].astype(np.float64) for item in answers]
    areas = {kind: Sample(_area(scores, steps), slices, chosen) for kind, scores in scores_of.items()}
    lost = Sample(areas["parent"].values - areas["candidate"].values, slices, chosen)
    found = {
        "area": measured(levels(areas["candidate"], case.alpha), areas["candidate"]),
        "parent_area": measured(levels(areas["parent"], case.alpha), areas["parent"]),
        "area_loss": measured(losses(lost, case.alpha), lost),
        "failure_severity": measured(_broken(curve, scores_of["candidate"], slices, chosen, case.alpha), lost),
        "parent_failure_severity": measured(_broken(curve, scores_of["parent"], slices, chosen, case.alpha), lost),
    }
    for kind, outcomes in found.items():
        for slice_name, outcome in zip(slices.names, outcomes, strict=True):
            yield Reading(metric=f"{kind}.{curve.name}", slice=slice_name, outcome=outcome)


def _area(scores: list[NDArray[np.float64]], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N,)``: each image's mean score over severity."""
    parts = [(before + after) / 2 * step for before, after, step in zip(scores, scores[1:], steps, strict=False)]
    return np.asarray(np.sum(parts, axis=0) / steps.sum())


def _broken(
    curve: Curve,
    scores: list[NDArray[np.float64]],
    slices: Slices,
    chosen: NDArray[np.int64] | None,
    alpha: float,
) -> Interval:
    """Where value, low end and high end of each slice's curve cross the floor."""
    found = [levels(Sample(values, slices, chosen), alpha) for values in scores]
    floor = curve.floor * found[0].value if curve.relative else np.full_like(found[0].value, curve.floor)
    axis = np.array((0.0, *np.abs(curve.severities)))
    ends = [
        crossing(axis, np.stack([getattr(level, end) for level in found]), floor) for end in ("value", "low", "high")
    ]
    return Interval(ends[0], np.minimum(ends[1], ends[0]), np.maximum(ends[2], ends[0]))


def crossing(
    axis: NDArray[np.float64], heights: NDArray[np.float64], floor: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where on ``axis`` (K,) each column of ``heights`` (K, S) first falls under ``floor`` (S,), interpolated."""
    under, columns = heights < floor, np.arange(heights.shape[1])
    after = under.argmax(axis=0)
    before = np.maximum(after - 1, 0)
    fall = heights[before, columns] - heights[after, columns]
    share = np.divide(heights[before, columns] - floor, fall, out=np.zeros_like(floor), where=after > 0)
    places: NDArray[np.float64] = axis[before] + share * (axis[after] - axis[before])
    return np.asarray(np.where(under.any(axis=0), places, axis[-1]))


@dataclass(frozen=True)
class Axis:
    """One kind of disturbance at several strengths, weakest first.

    ``name`` and ``title`` are those of its curve; ``severities`` are distances from the untouched images, in the
    curve's ``unit``.
    """

    name: str
    title: str
    unit: str
    family: Family
    conditions: tuple[Condition, ...]
    severities: tuple[float, ...]
    disturbances: tuple[Disturbance, ...]
    streams: tuple[str, ...]
    """For each condition the name that its random numbers are drawn from."""


def axis_of(
    family: Family,
    makers: Mapping[float, tuple[float, Disturbance]],
    *,
    name: str = "",
    title: str = "",
    unit: str = "",
    stream: str = "",
) -> Axis:
    """An axis from its strengths: each gives the severity on the curve and the disturbance.

    One family may have two curves (darker and brighter), each with a ``name`` and ``title`` of its own.
    """
    ordered = sorted(makers, key=lambda strength: makers[strength][0])
    return Axis(
        name=name or family.name,
        title=title or family.title,
        unit=unit,
        family=family,
        conditions=tuple(family.condition(strength) for strength in ordered),
        severities=tuple(makers[strength][0] for strength in ordered),
        disturbances=tuple(makers[strength][1] for strength in ordered),
        streams=tuple(f"{stream}@{strength:g}" if stream else family.condition(strength).name for strength in ordered),
    )


class SweptCheck(Check):
    """A check of several kinds of disturbance, each at several strengths: an ``Axis`` for each kind.

    With ``curve`` each axis is also measured over all its strengths, and ``floor`` is the score that must hold.
    """

    curve: bool = False
    floor: Annotated[float, Field(ge=0, le=1)] = 0.5
    errors_apart: bool = False

    @abstractmethod
    def axes(self) -> tuple[Axis, ...]:
        """The kinds of disturbance, each with its strengths; an axis without any is left out."""

    def families(self) -> tuple[Family, ...]:
        """The families of the axes, each once."""
        return tuple({axis.family.name: axis.family for axis in self._used()}.values())

    def conditions(self) -> tuple[Condition, ...]:
        """One for each strength of each axis."""
        return tuple(condition for axis in self._used() for condition in axis.conditions)

    def metrics(self) -> tuple[Metric, ...]:
        """The conditions' metrics, and the curves'."""
        conditions = SweptCheck.conditions(self)
        return (
            *paired_metrics(conditions),
            *(error_metrics(conditions) if self.errors_apart else ()),
            *(one for axis in self._used() if self.curve for one in curve_metrics(axis.name, axis.title, axis.unit)),
        )

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Compare once for each strength of each axis."""
        for axis in self._used():
            pairs = []
            for condition, disturb, stream in zip(axis.conditions, axis.disturbances, axis.streams, strict=True):
                pairs.append(case.pair(condition.name, disturb, stream))
                yield from case.readings(pairs[-1], errors_apart=self.errors_apart)
            if self.curve:
                yield from curve_readings(case, Curve(axis.name, axis.severities, pairs, self.floor))

    def disturbances(self) -> Mapping[str, Disturbance]:
        """What the axes do under each of their conditions."""
        return {
            condition.name: disturb
            for axis in self._used()
            for condition, disturb in zip(axis.conditions, axis.disturbances, strict=True)
        }

    def _used(self) -> Iterator[Axis]:
        return (axis for axis in self.axes() if axis.conditions)
