"""Accuracy against severity: the area under the curve, and the severity at which a floor is broken.

One severity says little: two models can meet there and part before it.  The area is taken image by image, so it
is paired and can be sliced like any other score; the untouched images are the curve's first point.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets.dataset import Slices
from auditsvc.evaluation.context import CLEAN, Disturbance, EvalContext
from auditsvc.evaluation.intervals import Interval
from auditsvc.evaluation.paired import ERRORS, Pair, Predictions, levels, losses
from auditsvc.records import Measured, Reading, Unmeasured

CURVE = ("area", "parent_area", "area_loss", "breaking", "parent_breaking")
"""What ``curve_readings`` emits before the curve's name."""


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


def curve_metrics(name: str) -> tuple[str, ...]:
    """The metrics of one curve."""
    return tuple(f"{kind}.{name}" for kind in CURVE)


def curve_readings(case: EvalContext, curve: Curve) -> Iterator[Reading]:
    """On every slice: ``area`` and ``breaking`` of the candidate, the same of the parent, and ``area_loss``.

    ``area`` is the mean score over severity from 0 to the largest, by the trapezoidal rule; in 0..1.  ``breaking``
    is in the unit of the severities: where the score, interpolated, first falls under the floor; its ends are where
    the interval's ends do.  A floor that never breaks gives the largest severity, which then means: at least.
    """
    clean, slices = case.pair(CLEAN), case.dataset.slices
    chosen = curve.pairs[0].chosen
    steps = np.diff(np.array((0.0, *np.abs(curve.severities))))
    scores_of = {}
    for kind in ("candidate", "parent"):
        first: Predictions = getattr(clean, kind)
        answers = [first if chosen is None else first[chosen], *(getattr(pair, kind) for pair in curve.pairs)]
        scores_of[kind] = [item["score"].astype(np.float64) for item in answers]
    areas = {kind: _area(scores, steps) for kind, scores in scores_of.items()}
    images = slices.sums(np.ones_like(areas["parent"]), chosen)
    found = {
        "area": levels(areas["candidate"], slices, chosen, case.alpha),
        "parent_area": levels(areas["parent"], slices, chosen, case.alpha),
        "area_loss": losses(areas["parent"] - areas["candidate"], slices, chosen, case.alpha),
        "breaking": _broken(curve, scores_of["candidate"], slices, chosen, case.alpha),
        "parent_breaking": _broken(curve, scores_of["parent"], slices, chosen, case.alpha),
    }
    for kind, interval in found.items():
        for place, slice_name in enumerate(slices.names):
            yield _reading(f"{kind}.{curve.name}", slice_name, int(images[place]), interval, place)


def _area(scores: list[NDArray[np.float64]], steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N,)``: each image's mean score over severity."""
    parts = [(before + after) / 2 * step for before, after, step in zip(scores, scores[1:], steps, strict=False)]
    return np.asarray(np.sum(parts, axis=0) / steps.sum())


def unseen(images: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """The largest share of images that can behave otherwise where none of ``images`` did: about ``3 / images``.

    Reference: J. A. Hanley and A. Lippman-Hand (1983), doi:10.1001/jama.1983.03330370053031 (the rule of three).
    """
    return np.asarray(1 - alpha ** (1 / np.maximum(images, 1)))


def _broken(
    curve: Curve,
    scores: list[NDArray[np.float64]],
    slices: Slices,
    chosen: NDArray[np.int64] | None,
    alpha: float,
) -> Interval:
    """Where value, low end and high end of each slice's curve cross the floor."""
    found = [levels(values, slices, chosen, alpha) for values in scores]
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
    found = np.full(heights.shape[1], axis[-1])
    for column in range(heights.shape[1]):
        under = np.flatnonzero(heights[:, column] < floor[column])
        if not len(under):
            continue
        place = int(under[0])
        if place == 0:
            found[column] = axis[0]
            continue
        before, after = heights[place - 1, column], heights[place, column]
        share = (before - floor[column]) / (before - after)
        found[column] = axis[place - 1] + share * (axis[place] - axis[place - 1])
    return found


def _reading(metric: str, slice_name: str, images: int, interval: Interval, place: int) -> Reading:
    if images == 0:
        return Reading(metric=metric, slice=slice_name, outcome=Unmeasured(reason="no image of this slice was tried"))
    value, low, high = (float(part[place]) for part in (interval.value, interval.low, interval.high))
    return Reading(metric=metric, slice=slice_name, outcome=Measured(value=value, low=low, high=high, images=images))


@dataclass(frozen=True)
class Axis:
    """One kind of disturbance at several strengths, weakest first; ``severities`` are in its physical unit."""

    name: str
    names: tuple[str, ...]
    severities: tuple[float, ...]
    disturbances: tuple[Disturbance, ...]


def axis_of(name: str, pattern: str, makers: Mapping[float, tuple[float, Disturbance]]) -> Axis:
    """An axis from its strengths: each gives its severity and its disturbance, and its name by ``pattern``."""
    ordered = sorted(makers, key=lambda strength: makers[strength][0])
    return Axis(
        name=name,
        names=tuple(pattern.format(strength) for strength in ordered),
        severities=tuple(makers[strength][0] for strength in ordered),
        disturbances=tuple(makers[strength][1] for strength in ordered),
    )


def swept(case: EvalContext, axis: Axis, floor: float, *, curve: bool, errors_apart: bool) -> Iterator[Reading]:
    """Compare under every strength of an axis; with ``curve`` also over all of them."""
    pairs = []
    for name, disturb in zip(axis.names, axis.disturbances, strict=True):
        pairs.append(case.pair(name, disturb))
        yield from case.readings(pairs[-1], errors_apart=errors_apart)
    if curve:
        yield from curve_readings(case, Curve(axis.name, axis.severities, pairs, floor))


def swept_disturbances(axes: Sequence[Axis]) -> dict[str, Disturbance]:
    """What these axes do under each of their conditions."""
    return {name: disturb for axis in axes for name, disturb in zip(axis.names, axis.disturbances, strict=True)}


def swept_metrics(axes: Sequence[Axis], *, curve: bool, errors_apart: bool) -> tuple[str, ...]:
    """Every metric that ``swept`` emits for these axes."""
    kinds = ("score", "parent", "drop", *(ERRORS if errors_apart else ()))
    each = [f"{kind}.{name}" for kind in kinds for axis in axes for name in axis.names]
    return (*each, *(metric for axis in axes if curve for metric in curve_metrics(axis.name)))
