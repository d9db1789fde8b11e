"""Micro-averaged metrics of a whole corpus: recall of objects, mean IoU, character error rate.

Each is a function of sums over the images, so a slice, a resample and the difference of two models are all products of
weights and per-image statistics.  Both models are resampled together, by image or by cluster, with Poisson weights and
one block of images at a time, so that a million images stream.

A bootstrap has no information about changes that never occurred in the sample, so where the changes amount to fewer
than ``FEW`` whole images or clusters, the ends are widened by what a share of unseen ones could still change.

References: B. Efron (1987), doi:10.1080/01621459.1987.10478410; N. Chamandy et al. (2012), "Estimating Uncertainty for
Massive Data Streams" (the Poisson bootstrap).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import stats

from auditsvc.datasets.dataset import Slices
from auditsvc.evaluation.check import Check
from auditsvc.evaluation.context import CLEAN, EvalContext
from auditsvc.evaluation.intervals import FEW, Interval, corrected, groups_of, wilson
from auditsvc.evaluation.paired import Pair, Predictions
from auditsvc.records import CLEAN_CONDITION, OVERALL, Condition, Measured, Metric, Reading, Unmeasured

Numbers = NDArray[np.float64]

Formula = Callable[[Numbers], Numbers]
"""``(B, K)`` sums of what was counted to ``(B,)`` values, or ``(B, C)`` for the classes; NaN where there is nothing."""

BLOCK = 4096
"""Images that are resampled at once."""


def share(part: Numbers, whole: Numbers) -> Numbers:
    """Part over whole; NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0))


@dataclass(frozen=True)
class Sums:
    """For each slice ``(R, K)`` sums of one model: of all images, of ``draws`` resamples, of what is left of groups."""

    slices: tuple[Numbers, ...]
    draws: int


def summed(counts: Numbers, slices: Slices, draws: int, rng: np.random.Generator) -> tuple[Numbers, ...]:
    """For each slice ``(R, K)``: the sums of ``counts`` (N, K) over all images, ``draws`` resamples, and each of up to
    50 groups left out."""
    groups, clusters = groups_of(slices.images, slices.clusters)
    drawn = None if clusters is None else rng.poisson(1.0, (draws, int(clusters.max()) + 1)).astype(np.uint8)
    rows = 1 + draws + int(groups.max()) + 1
    totals = [np.zeros((rows, counts.shape[1])) for _ in slices.names]
    for start in range(0, len(counts), BLOCK):
        place = slice(start, min(start + BLOCK, len(counts)))
        size = place.stop - start
        weights = np.ones((rows, size))
        weights[1 : 1 + draws] = rng.poisson(1.0, (draws, size)) if drawn is None or clusters is None else (
            drawn[:, clusters[place]]
        )  # fmt: skip
        weights[1 + draws :] = groups[place] != np.arange(int(groups.max()) + 1)[:, None]
        totals[0] += weights @ counts[place]
        at = 1
        for column in slices.columns:
            codes = column.codes[place]
            for label in range(len(column.labels)):
                inside = np.flatnonzero(codes == label)
                if len(inside):
                    totals[at] += weights[:, inside] @ counts[start + inside]
                at += 1
    return tuple(totals)


def formula_of(formula: Formula, sums: Sums) -> list[Numbers]:
    """For each slice ``(R,)`` values."""
    return [formula(one) for one in sums.slices]


def interval_of(values: Numbers, draws: int, alpha: float, units: float) -> Interval:
    """The interval of one measure: its value, the resampled ones, and those with a group left out, in one row.

    Resamples in which there is nothing to measure are left out.  ``units`` is how many images, or clusters, it is from:
    of few of them the bootstrap sees too little spread, so its quantiles are Student's.

    Reference: T. C. Hesterberg (2015), doi:10.1080/00031305.2015.1089789, section 5 (expanded percentiles).
    """
    drawn, left = values[1 : 1 + draws], values[1 + draws :]
    freedom = max(units - 1, 1.0)
    wider = float(stats.norm.sf(stats.t.isf(alpha, freedom) * np.sqrt((freedom + 1) / freedom)))
    return corrected(float(values[0]), drawn[np.isfinite(drawn)], left[np.isfinite(left)], wider)


def shift_to_margin(found: Interval, mass: float, units: float, alpha: float, floor: float) -> Interval:
    """The ends moved out by what unseen images, or clusters, could change, where few have changed; cut to the scale.

    ``mass`` is how many whole units the change amounts to: a little noise on every image is next to none.
    """
    low, high, value = float(found.low), float(found.high), float(found.value)
    if mass < FEW:
        reach = float(wilson(mass, units, alpha).high) - mass / units
        low, high = min(low, value - reach), max(high, value + reach)
    return bounded(value, max(low, floor), min(high, 1.0))


def bounded(value: float, low: float, high: float) -> Interval:
    """An interval that holds its value."""
    return Interval(np.array(value), np.array(min(low, value)), np.array(max(high, value)))


WORST = Metric(
    id="drop.worst_class", kind="difference", unit="points", better="lower", role="loss",
    title="the largest loss of any one class",
)  # fmt: skip


def _loss_id(measure: Metric) -> str:
    return f"rise.{measure.id}" if measure.better == "lower" else f"drop.{measure.id}"


def _derived(measure: Metric) -> tuple[Metric, ...]:
    """The measure of the candidate and of the parent, the loss between them, and the differences between groups."""
    name, title = measure.id, measure.title
    gap = Metric(id=f"{name}_difference", kind="difference", unit="points", better="lower",
                 title=f"largest difference between groups in {title}")  # fmt: skip
    loss = Metric(id=_loss_id(measure), kind="difference", unit="points", better="lower", role="loss",
                  title=f"loss against the parent in {title}")  # fmt: skip
    return (
        measure,
        measure.model_copy(update={"id": f"parent_{name}", "title": f"{title}, of the parent"}),
        gap,
        gap.model_copy(update={"id": f"parent_{gap.id}", "title": f"{gap.title}, of the parent"}),
        loss,
    )


class RatioCheck(Check):
    """Compares measures of the corpus on the images as they are, on every slice of at least ``min_images`` images.

    For a measure ``M`` it emits ``M`` and ``parent_M``; ``drop.M`` (parent less candidate), or ``rise.M`` for an error
    rate (candidate less parent); and ``M_difference`` and ``parent_M_difference``: on a slice the largest difference
    to any other group of its column, on ``overall`` the worst column's.  Its upper end is uncorrected, the
    lower one is corrected for the number of pairs.  Where the task has classes, ``drop.worst_class`` is the largest
    loss of any one class; its upper end holds for all of them, its lower end is corrected for their number.
    """

    draws: Annotated[int, Field(ge=200, le=20000)] = 1000
    min_images: Annotated[int, Field(ge=2)] = 30

    @abstractmethod
    def measures(self) -> Mapping[Metric, Formula]:
        """The formula of every measure, by the metric that it gives of the candidate."""

    def counts(self, answers: Predictions) -> Numbers:
        """``(N, K)``: what is summed of each answer: all that was tallied."""
        return answers["tally"].astype(np.float64)

    def counted(self, case: EvalContext, pair: Pair) -> tuple[Numbers, Numbers]:  # noqa: ARG002 - the case is for passes of one's own
        """What is summed of each answer of the candidate, and of the parent."""
        return self.counts(pair.candidate), self.counts(pair.parent)

    def by_class(self, sums: Numbers) -> Numbers | None:  # noqa: ARG002
        """``(B, C)``: the measure of each class; None where there are no classes."""
        return None

    def conditions(self) -> tuple[Condition, ...]:
        """One: the images untouched."""
        return (CLEAN_CONDITION,)

    def metrics(self) -> tuple[Metric, ...]:
        """Five for each measure, and the worst class."""
        worst = (WORST,) if self._has_classes() else ()
        return (*(metric for one in self.measures() for metric in _derived(one)), *worst)

    def _has_classes(self) -> bool:
        return type(self).by_class is not RatioCheck.by_class

    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """One pass, shared with every other check of the unmodified images."""
        pair, slices = case.pair(CLEAN), case.dataset.slices
        candidate, parent = self.counted(case, pair)
        rng = np.random.default_rng(case.seed)
        sums = summed(np.concatenate((candidate, parent), axis=1), slices, self.draws, rng)
        width = candidate.shape[1]
        own, dense = (Sums(tuple(one[:, part] for one in sums), self.draws)
                      for part in (slice(width), slice(width, None)))  # fmt: skip
        tries = _Tries.of(pair, slices)
        for measure, formula in self.measures().items():
            name = measure.id
            values = [formula_of(formula, one) for one in (own, dense)]
            sign = -1.0 if measure.better == "lower" else 1.0
            change = [sign * (before - after) for after, before in zip(*values, strict=True)]
            yield from self._told(name, values[0], tries.imperfect, tries, slices, case.alpha, 0.0)
            yield from self._told(f"parent_{name}", values[1], tries.parent_imperfect, tries, slices, case.alpha, 0.0)
            yield from self._told(_loss_id(measure), change, tries.differing, tries, slices, case.alpha, -1.0)
            for prefix, found in (("", values[0]), ("parent_", values[1])):
                yield from self._gaps(f"{prefix}{name}_difference", found, tries, slices, case.alpha)
        if self._has_classes():
            yield from self._worst(own, dense, tries, case)

    def _told(
        self, metric: str, values: Sequence[Numbers], mass: Numbers, tries: _Tries, slices: Slices, alpha: float,
        floor: float,
    ) -> Iterator[Reading]:  # fmt: skip
        for place, name in enumerate(slices.names):
            images = int(tries.images[place])
            if images < self.min_images:
                outcome: Measured | Unmeasured = self._too_few(images)
            elif not np.isfinite(values[place][0]):
                outcome = Unmeasured(reason="there is nothing of the kind on the images of this slice", images=images)
            else:
                found = interval_of(values[place], self.draws, alpha, float(tries.units[place]))
                found = shift_to_margin(found, float(mass[place]), float(tries.units[place]), alpha, floor)
                value, low, high = (float(part) for part in (found.value, found.low, found.high))
                outcome = Measured(value=value, low=low, high=high, images=images)
            yield Reading(metric=metric, slice=name, outcome=outcome)

    def _too_few(self, images: int) -> Unmeasured:
        return Unmeasured(reason=f"{images} images; a resampled interval needs {self.min_images}", images=images)

    def _gaps(
        self, metric: str, values: Sequence[Numbers], tries: _Tries, slices: Slices, alpha: float
    ) -> Iterator[Reading]:
        """The largest difference between each group and any other of its column."""
        kept = [int(images) >= self.min_images and bool(np.isfinite(one[0])) for images, one in
                zip(tries.images, values, strict=True)]  # fmt: skip
        columns, start = [], 1
        for column in slices.columns:
            places = range(start, start + len(column.labels))
            small = [
                f"{slices.names[place]} ({int(tries.images[place])} images)" for place in places if not kept[place]
            ]
            columns.append(([place for place in places if kept[place]], small if len(column.labels) > 1 else []))
            start += len(column.labels)
        compared = [together for together, _ in columns if len(together) > 1]
        pairs = sum(len(together) * (len(together) - 1) // 2 for together in compared)
        found: dict[int, Measured] = {}
        for together, small in columns:
            for place in together if len(together) > 1 else ():
                others = [values[other] for other in together if other != place]
                gaps = [_gap(values[place], other, self.draws, alpha, pairs) for other in others]
                value, low, high = (max(gap[end] for gap in gaps) for end in range(3))
                one = Measured(value=value, low=low, high=max(high, value), images=int(tries.images[place]))
                found[place] = _without(one, small)
        missing = [name for _, small in columns for name in small]
        if found:
            ends = [max(getattr(one, end) for one in found.values()) for end in ("value", "low", "high")]
            images = min(one.images for one in found.values())
            found[0] = _without(Measured(value=ends[0], low=ends[1], high=ends[2], images=images), missing)
        short = f"; too small: {', '.join(missing[:3])}" if missing else ""
        for place, name in enumerate(slices.names):
            where = "no column" if name == OVERALL else "this slice's column"
            reason = f"{where} has this group and another with {self.min_images} images to compare{short}"
            yield Reading(metric=metric, slice=name, outcome=found.get(place) or Unmeasured(reason=reason))

    def _worst(self, own: Sums, dense: Sums, tries: _Tries, case: EvalContext) -> Iterator[Reading]:
        """The largest loss of any one class on every slice, and whose it is."""
        alpha = case.alpha
        for place, name in enumerate(case.dataset.slices.names):
            images = int(tries.images[place])
            after, before = self.by_class(own.slices[place]), self.by_class(dense.slices[place])
            if images < self.min_images or after is None or before is None or not np.isfinite(before[0]).any():
                yield Reading(metric=WORST.id, slice=name, outcome=self._too_few(images))
                continue
            change = np.where(np.isfinite(after), before - after, before)
            there = np.flatnonzero(np.isfinite(change[0]))
            units = float(tries.units[place])
            ends = [_ends_of_class(change[:, number], self.draws, alpha, len(there), units) for number in there]
            value, low, high = (max(end[part] for end in ends) for part in range(3))
            moved = shift_to_margin(bounded(value, low, high), float(tries.differing[place]), units, alpha, -1.0)
            which = case.dataset.classes[int(there[int(np.argmax([end[0] for end in ends]))])]
            outcome = Measured(value=value, low=float(moved.low), high=float(moved.high), images=images, which=which)
            yield Reading(metric=WORST.id, slice=name, outcome=outcome)


@dataclass(frozen=True)
class _Tries:
    """For each slice its images, its clusters (``units``; images that come alone), and how many whole units differ
    between the models, or are not at one end of the scale."""

    images: Numbers
    units: Numbers
    differing: Numbers
    imperfect: Numbers
    parent_imperfect: Numbers

    @classmethod
    def of(cls, pair: Pair, slices: Slices) -> _Tries:
        scores = [answers["score"].astype(np.float64) for answers in (pair.candidate, pair.parent)]
        images, units = slices.sums(np.ones(slices.images)), _units(slices)
        share = units / np.maximum(images, 1)
        rarer = [np.minimum(slices.sums(1 - one), slices.sums(one)) * share for one in scores]
        return cls(images, units, slices.sums(np.abs(scores[0] - scores[1])) * share, rarer[0], rarer[1])


def _units(slices: Slices) -> Numbers:
    """For each slice its images, or its clusters."""
    if slices.clusters is None:
        return slices.sums(np.ones(slices.images))
    inside = [np.ones(slices.images, bool)]
    inside += [column.codes == code for column in slices.columns for code in range(len(column.labels))]
    return np.array([float(len(np.unique(slices.clusters[one]))) for one in inside])


def _without(found: Measured, small: Sequence[str]) -> Measured:
    """The same, where groups are too small to be compared: they are named, and nothing is shown to be small."""
    if not small:
        return found
    which = f"the groups that are large enough, without {', '.join(small[:3])}"
    return found.model_copy(update={"high": 1.0, "which": (which + (" and more" if len(small) > 3 else ""))[:200]})


def _gap(one: Numbers, other: Numbers, draws: int, alpha: float, pairs: int) -> tuple[float, float, float]:
    """The difference of two groups: value, the end corrected for all pairs, the uncorrected end."""
    signed = one - other
    spread = float(np.nanstd(signed[1 : 1 + draws], ddof=1))
    value, normal = abs(float(signed[0])), NormalDist()
    low = value - normal.inv_cdf(1 - alpha / max(pairs, 1)) * spread
    return value, max(min(low, value), 0.0), min(value + normal.inv_cdf(1 - alpha) * spread, 1.0)


def _ends_of_class(change: Numbers, draws: int, alpha: float, classes: int, units: float) -> tuple[float, float, float]:
    """One class's loss: value, the end corrected for the number of classes, the end that holds as it is."""
    value, spread = float(change[0]), float(np.nanstd(change[1 : 1 + draws], ddof=1))
    low = value - NormalDist().inv_cdf(1 - alpha / classes) * spread
    return value, low, float(interval_of(change, draws, alpha, units).high)
