"""From the per-image scores of parent and candidate to readings for every slice.

Independent 0/1 scores get Wilson's and Tango's intervals.  Graded scores, and images in clusters (of one video, patient
or writer), get an interval that holds for any distribution on the scale (``intervals.bounded_mean``), over images or
over the means of clusters: a loss of everything that is too rare to have been seen is counted, and so is a cluster that
was not.  With fewer than ``FEWEST_CLUSTERS`` clusters a slice can fail, never pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets.dataset import Slices
from auditsvc.evaluation.intervals import Interval, Units, bounded_mean, mcnemar, student_p, tango, unseen, wilson
from auditsvc.records import Condition, Measured, Metric, Reading, Unmeasured

Numbers = NDArray[np.float64]


FEWEST_CLUSTERS = 10
"""With fewer clusters in a slice no loss is shown to be small, and no level to be high."""

Chosen = NDArray[np.int64] | None


@dataclass(frozen=True)
class Sample:
    """The scores of some images, in every slice: what their intervals, p-values and design effects are computed from.

    ``images`` and ``clusters`` are ``(S,)`` counts; images that are not clustered are one cluster each.
    """

    values: NDArray[Any]
    slices: Slices
    chosen: Chosen

    @cached_property
    def images(self) -> Numbers:
        """``(S,)``: images of each slice."""
        return self.sums(np.ones(len(self.values), np.bool_))

    @cached_property
    def clusters(self) -> Numbers:
        """``(S,)``: clusters of each slice."""
        if self.slices.clusters is None:
            return self.images
        return np.bincount(self.units.place, self.units.count, self.units.places).astype(np.float64)

    @cached_property
    def is_binary(self) -> bool:
        """Whether every score, or every change of one, is 0 or 1 (or -1)."""
        return is_binary(np.abs(self.values))

    @property
    def independent(self) -> NDArray[np.bool_]:
        """``(S,)``: slices of which no two images are of one cluster."""
        return np.asarray(self.clusters == self.images)

    def sums(self, values: NDArray[Any]) -> Numbers:
        """``(S,)``: the sum over each slice."""
        return self.slices.sums(values, self.chosen)

    @cached_property
    def units(self) -> Units:
        """Images, or clusters of them, of every slice."""
        clusters = self.slices.clusters
        if clusters is not None:
            clusters = np.unique(clusters if self.chosen is None else clusters[self.chosen], return_inverse=True)[1]
        found, start = [_units(self.values, np.zeros(len(self.values), np.int64), clusters)], 1
        for column in self.slices.columns:
            codes = (column.codes if self.chosen is None else column.codes[self.chosen]).astype(np.int64)
            inside = codes >= 0
            of = None if clusters is None else clusters[inside]
            found.append(_units(self.values[inside], codes[inside] + start, of))
            start += len(column.labels)
        place, mean, size, count = (np.concatenate([part[which] for part in found]) for which in range(4))
        return Units(place, mean, size, count, start)

    def design_effects(self) -> Numbers:
        """``(S,)``: the variance of the mean with clustering over that of as many independent images; at least 1.

        Where nothing varies, a cluster counts as one image.

        Reference: L. Kish (1965), "Survey Sampling", chapter 5.
        """
        units, images = self.units, np.maximum(self.images, 1)
        mean = self.sums(self.values) / images
        within = self.sums(np.square(self.values, dtype=np.float64)) - images * mean**2
        off = units.count * (units.size * (units.mean - mean[units.place])) ** 2
        between = np.bincount(units.place, off, units.places) * self.clusters / np.maximum(self.clusters - 1, 1)
        alike = np.bincount(units.place, units.count * units.size**2, units.places) / images
        varies = within > 1e-9 * images
        found = np.where(varies, between / np.where(varies, within, 1.0), alike)
        return np.where(self.independent, 1.0, np.maximum(found, 1.0))


def _units(values: NDArray[Any], places: NDArray[np.int64], clusters: Chosen) -> tuple[NDArray[Any], ...]:
    """Of one partition: slice, mean, size and count of every unit; many single images are counted in steps."""
    if clusters is None and len(values) <= _MANY:
        ones = np.ones(len(values))
        return places, values.astype(np.float64), ones, ones
    keys = np.rint((values.astype(np.float64) + 1) * _STEPS_OF_SCALE).astype(np.int64) if clusters is None else clusters
    width = int(keys.max(initial=0)) + 1
    found, inverse = np.unique(places * width + keys, return_inverse=True)
    number = np.bincount(inverse, minlength=len(found)).astype(np.float64)
    mean = np.bincount(inverse, weights=values, minlength=len(found)) / number
    one = np.ones(len(found))
    return found // width, mean, *((one, number) if clusters is None else (number, one))


_MANY, _STEPS_OF_SCALE = 2**14, 2**11
"""More single images than this are counted in steps of the scale; the mean of a step is kept."""


Predictions = NDArray[Any]
"""Structured ``(N,)``: ``score`` in 0..1, ``answer`` and ``target`` as whole numbers; for tasks that tally something
also ``tally`` ``(N, K)``.  See ``tasks.Judged``."""

WHOLE = {"answer": "<i8", "target": "<i4", "tally": "<i4"}


def empty_predictions(images: int, tally_size: int) -> Predictions:
    """An empty array for the predictions of this many images, each with this many statistics of its own."""
    fields: list[Any] = [("score", "<f4"), ("answer", WHOLE["answer"]), ("target", WHOLE["target"])]
    return np.zeros(images, [*fields, *([("tally", WHOLE["tally"], (tally_size,))] if tally_size else [])])


def packed(answers: Predictions) -> Predictions:
    """The same answers in the smallest numbers that hold them: a third of the room, which counts for a million."""
    binary = is_binary(answers["score"])
    names = [name for name in WHOLE if name in (answers.dtype.names or ())]
    kinds = {name: np.result_type(*map(np.min_scalar_type, _ends(answers[name]))) for name in names}
    return _in_kinds(answers, {"score": "u1" if binary else "<f4", **kinds})


def unpacked(answers: Predictions) -> Predictions:
    """The same answers in full width, so that several can be put together."""
    return _in_kinds(answers, {"score": "<f4", **{name: WHOLE[name] for name in (answers.dtype.names or ())[1:]}})


def _in_kinds(answers: Predictions, kinds: Mapping[str, Any]) -> Predictions:
    made = np.empty(len(answers), [(name, kind, answers[name].shape[1:]) for name, kind in kinds.items()])
    for name in kinds:
        made[name] = answers[name]
    return made


def _ends(numbers: NDArray[Any]) -> tuple[int, int]:
    return (int(numbers.min()), int(numbers.max())) if numbers.size else (0, 0)


@dataclass(frozen=True)
class Pair:
    """Both models' answers to the same images under one condition; ``chosen`` are their numbers, None all."""

    name: str
    parent: Predictions
    candidate: Predictions
    chosen: NDArray[np.int64] | None
    step: float = 0.0
    """An image is lost or won if its score moves by more than this; see ``tasks.Task.step``."""

    @property
    def change(self) -> NDArray[np.float64]:
        """``(N,)``: how much lower each image's score is in the candidate."""
        return np.asarray(self.parent["score"].astype(np.float64) - self.candidate["score"])

    @property
    def lost(self) -> NDArray[np.bool_]:
        """``(N,)``: images that the candidate does worse."""
        return np.asarray(self.change > self.step)

    @property
    def won(self) -> NDArray[np.bool_]:
        """``(N,)``: images that the candidate does better."""
        return np.asarray(self.change < -self.step)


def paired_readings(
    name: str,
    parent: NDArray[Any],
    candidate: NDArray[Any],
    slices: Slices,
    chosen: NDArray[np.int64] | None,
    alpha: float,
    step: float = 0.0,
) -> Iterator[Reading]:
    """``score.NAME``, ``parent.NAME`` and ``drop.NAME`` (parent minus candidate) on every slice.

    ``parent`` and ``candidate`` are ``(N,)`` scores in 0..1 of the same images; ``chosen`` are those images'
    numbers where not all of the data set was run; ``step`` as in ``Pair``.
    """
    kind_of = np.int8 if is_binary(parent, candidate) else np.float64  # a million differences of 0 and 1: a megabyte
    before, after = (Sample(scores.astype(kind_of), slices, chosen) for scores in (parent, candidate))
    found = {
        "score": measured(levels(after, alpha), after),
        "parent": measured(levels(before, alpha), before),
        "drop": measured_losses(Sample(before.values - after.values, slices, chosen), alpha, step),
    }
    for kind, outcomes in found.items():
        for slice_name, outcome in zip(slices.names, outcomes, strict=True):
            yield Reading(metric=f"{kind}.{name}", slice=slice_name, outcome=outcome)


Outcomes = list[Measured | Unmeasured]


def is_binary(*scores: NDArray[Any]) -> bool:
    """Whether all of these are 0 or 1."""
    return all(bool(((one == 0) | (one == 1)).all()) for one in scores)


def levels(sample: Sample, alpha: float) -> Interval:
    """The mean score of every slice: of ``(N,)`` scores in 0..1 to ``(S,)``; meaningless where a slice has no image."""
    images = np.maximum(sample.images, 1)
    if sample.is_binary:
        counted = wilson(sample.sums(sample.values), images, alpha)
        if sample.slices.clusters is None:
            return counted
    found = bounded_mean(sample.units, alpha, 0.0, 1.0)
    few = _too_few(sample)
    found = Interval(found.value, np.where(few, 0.0, found.low), np.where(few, 1.0, found.high))
    return _where(sample.independent, counted, found) if sample.is_binary else found


def losses(sample: Sample, alpha: float) -> Interval:
    """The mean loss of every slice: of ``(N,)`` differences in -1..1 to ``(S,)``."""
    if sample.is_binary:
        lost, won = sample.sums(sample.values > 0), sample.sums(sample.values < 0)
        counted = tango(lost, won, np.maximum(sample.images, 1), alpha)
        # where no answer changes, Tango's end alone errs with 6.7 % at an alpha of 5 %
        still, reach = lost + won == 0, unseen(sample.images, alpha)
        counted = _where(still, Interval(counted.value, -reach, reach), counted)
        if sample.slices.clusters is None:
            return counted
    found = bounded_mean(sample.units, alpha, -1.0, 1.0)
    found = Interval(found.value, found.low, np.where(_too_few(sample), 1.0, found.high))
    return _where(sample.independent, counted, found) if sample.is_binary else found


def _too_few(sample: Sample) -> NDArray[np.bool_]:
    return np.asarray((sample.clusters < FEWEST_CLUSTERS) & ~sample.independent)


def _where(which: NDArray[np.bool_], one: Interval, other: Interval) -> Interval:
    return Interval(*(np.where(which, getattr(one, end), getattr(other, end)) for end in ("value", "low", "high")))


def measured_losses(sample: Sample, alpha: float, step: float) -> Outcomes:
    """A mean loss on every slice, with how many images were lost and won, and the p-value of no loss."""
    lost, won = sample.sums(sample.values > step), sample.sums(sample.values < -step)
    p = mcnemar(lost, won) if sample.is_binary else student_p(sample.units)
    if sample.is_binary and sample.slices.clusters is not None:
        p = np.where(sample.independent, p, student_p(sample.units))
    shown = zip(measured(losses(sample, alpha), sample), lost, won, p, strict=True)
    return [
        one.model_copy(update={"lost": int(b), "won": int(c), "p": float(q)}) if isinstance(one, Measured) else one
        for one, b, c, q in shown
    ]


def measured(interval: Interval, sample: Sample, empty: str = "no image of this slice was tried") -> Outcomes:
    """One outcome for each slice, with its images and, where they are clustered, clusters and design effect."""
    clustered = sample.slices.clusters is not None
    effects = sample.design_effects() if clustered else None
    found: Outcomes = []
    for place, images in enumerate(sample.images):
        if images == 0:
            found.append(Unmeasured(reason=empty, images=0))
            continue
        value, low, high = (float(part[place]) for part in (interval.value, interval.low, interval.high))
        outcome = Measured(value=value, low=low, high=high, images=int(images))
        if effects is not None:
            more = {"clusters": int(sample.clusters[place]), "design_effect": round(float(effects[place]), 3)}
            outcome = outcome.model_copy(update=more)
        found.append(outcome)
    return found


_ERRORS = (("false_negative", "false negative rate"), ("false_positive", "false positive rate"))


def error_metrics(conditions: Sequence[Condition]) -> tuple[Metric, ...]:
    """What ``error_readings`` emits under each of these conditions."""
    return tuple(
        Metric(id=f"{whose}{name}.{condition.name}", kind="proportion", unit="%", better="lower",
               condition=condition.name, plannable=not whose,
               title=f"{title}{' of the parent' if whose else ''}, {condition.words}")
        for whose in ("", "parent_") for name, title in _ERRORS for condition in conditions
    )  # fmt: skip


def error_readings(pair: Pair, classes: int, slices: Slices, alpha: float) -> Iterator[Reading]:
    """False negatives and false positives apart, on every slice: ``missed.NAME`` and ``alarm.NAME``.

    With two classes the second is the positive one: ``missed`` is the share of its images that were answered
    otherwise, ``alarm`` the share of the others that were answered as it.  With more, each class is the positive
    one in turn, and the worst is given; its interval is for one class and does not know that it was picked.
    """
    positives = range(1, 2) if classes == 2 else range(classes)
    for kind, answers in (("", pair.candidate), ("parent_", pair.parent)):
        for name, (title, wrong) in zip(
            (_ERRORS[0][0], _ERRORS[1][0]), (("positive", True), ("negative", False)), strict=True
        ):
            found = [_errors(answers, positive, wrong, slices, pair.chosen, alpha, title) for positive in positives]
            for spot, slice_name in enumerate(slices.names):
                worst = max(
                    (one[spot] for one in found), key=lambda one: one.value if isinstance(one, Measured) else -1.0
                )
                yield Reading(metric=f"{kind}{name}.{pair.name}", slice=slice_name, outcome=worst)


def _errors(
    answers: Predictions, positive: int, missed: bool, slices: Slices, chosen: Chosen, alpha: float, title: str
) -> Outcomes:
    """The error rate of one class on every slice: of its images answered otherwise, or of the others answered as it."""
    among = np.flatnonzero((answers["target"] == positive) == missed)
    wrong = ((answers["answer"][among] == positive) != missed).astype(np.int8)
    sample = Sample(wrong, slices, among if chosen is None else chosen[among])
    return measured(levels(sample, alpha), sample, f"no image of this slice has a {title} target")
