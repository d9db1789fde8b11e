"""From the per-image scores of parent and candidate to readings for every slice.

Binary scores get Wilson's and Tango's intervals; graded scores get Student's and Hall's, on the per-image differences.

Clustered images (of one video, patient or writer) carry less information than independent ones.  The design effect is
the variance of a mean with clustering over the variance without.  Counts are divided by it and then get the intervals
of independent images, which stay accurate for few images and rare changes.  Where nothing varies, a cluster counts as
one image, the most pessimistic case.  With few clusters their variance itself is uncertain, so the effect is widened
by the ratio of Student's to the normal quantile.

Reference: J. N. K. Rao and A. J. Scott (1992), "A Simple Method for the Analysis of Clustered Binary Data",
doi:10.2307/2532311.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from auditsvc.datasets.dataset import Slices
from auditsvc.evaluation.intervals import Interval, graded, mcnemar, student_p, tango, wilson
from auditsvc.records import Condition, Measured, Metric, Reading, Unmeasured

Numbers = NDArray[np.float64]


def design_effects(values: Numbers, slices: Slices, chosen: NDArray[np.int64] | None, alpha: float) -> Numbers:
    """The design effect of each slice: at least 1, and 1 if its images are independent."""
    if slices.clusters is None:
        return np.ones(len(slices.names))
    clusters = slices.clusters if chosen is None else slices.clusters[chosen]
    found = [_effects(values, np.zeros(len(values), np.int64), 1, clusters, alpha)]
    for column in slices.columns:
        codes = column.codes if chosen is None else column.codes[chosen]
        inside = codes >= 0
        found.append(_effects(values[inside], codes[inside], len(column.labels), clusters[inside], alpha))
    return np.concatenate(found)


def _effects(
    values: Numbers, codes: NDArray[np.integer], labels: int, clusters: NDArray[np.int64], alpha: float
) -> Numbers:
    """The design effect of each group of one partition."""
    images = np.bincount(codes, minlength=labels)
    means = np.bincount(codes, weights=values, minlength=labels) / np.maximum(images, 1)
    residuals = values - means[codes]
    pairs, inverse = np.unique(clusters * labels + codes, return_inverse=True)
    totals = np.bincount(inverse, weights=residuals, minlength=len(pairs))
    group = (pairs % labels).astype(np.int64)
    count = np.bincount(group, minlength=labels)
    between = np.bincount(group, weights=totals**2, minlength=labels) * count / np.maximum(count - 1, 1)
    within = np.bincount(codes, weights=residuals**2, minlength=labels)
    alike = images / np.maximum(count, 1)
    effect = np.where(within > 1e-12, between / np.maximum(within, 1e-12), alike)
    effect = np.where(count < 2, np.maximum(images, 1), np.maximum(effect, 1.0))
    wider = stats.t.isf(alpha, np.maximum(count - 1, 1)) / stats.norm.isf(alpha)
    return np.asarray(effect * wider**2)


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
    images = _counts(parent, slices, chosen)
    kind_of = np.int8 if is_binary(parent, candidate) else np.float64  # a million differences of 0 and 1: a megabyte
    before: NDArray[Any] = parent.astype(kind_of)
    after: NDArray[Any] = candidate.astype(kind_of)
    found = {
        "score": _outcomes(levels(after, slices, chosen, alpha), images),
        "parent": _outcomes(levels(before, slices, chosen, alpha), images),
        "drop": measured_losses(before - after, slices, chosen, images, alpha, step),
    }
    for kind, outcomes in found.items():
        for slice_name, outcome in zip(slices.names, outcomes, strict=True):
            yield Reading(metric=f"{kind}.{name}", slice=slice_name, outcome=outcome)


Outcomes = list[Measured | Unmeasured]
Chosen = NDArray[np.int64] | None


def is_binary(*scores: NDArray[Any]) -> bool:
    """Whether all of these are 0 or 1."""
    return all(bool(((one == 0) | (one == 1)).all()) for one in scores)


def levels(values: NDArray[Any], slices: Slices, chosen: Chosen, alpha: float) -> Interval:
    """The mean score of every slice: ``(N,)`` in 0..1 to ``(S,)``; meaningless where a slice has no image."""
    worth = _worth(values, slices, chosen, alpha)
    images = np.maximum(_counts(values, slices, chosen), 1) * worth
    total = slices.sums(values, chosen) * worth
    bounded = wilson(np.clip(total, 0, images), images, alpha)
    if is_binary(values):
        return bounded
    differing = np.minimum(slices.sums(values < 1, chosen), slices.sums(values > 0, chosen)) * worth
    squares, cubes = (slices.sums(values**power, chosen) * worth for power in (2, 3))
    return _within(graded((total, squares, cubes), images, differing, bounded, alpha), 0.0)


def losses(change: NDArray[Any], slices: Slices, chosen: Chosen, alpha: float) -> Interval:
    """The mean loss of every slice: ``(N,)`` in -1..1 to ``(S,)``."""
    worth = _worth(change, slices, chosen, alpha)
    images = np.maximum(_counts(change, slices, chosen), 1) * worth
    lost, won = (slices.sums(np.maximum(side, 0), chosen) * worth for side in (change, -change))
    bounded = tango(lost, won, images, alpha)
    if is_binary(np.abs(change)):
        return bounded
    differing = slices.sums(change != 0, chosen) * worth
    total, squares, cubes = (slices.sums(change**power, chosen) * worth for power in (1, 2, 3))
    return _within(graded((total, squares, cubes), images, differing, bounded, alpha), -1.0)


def _within(interval: Interval, floor: float) -> Interval:
    """Cut to the scale, which ends at 1."""
    return Interval(*(np.clip(part, floor, 1.0) for part in (interval.value, interval.low, interval.high)))


def _counts(values: NDArray[Any], slices: Slices, chosen: Chosen) -> Numbers:
    return slices.sums(np.ones(len(values), np.bool_), chosen)


def _worth(values: NDArray[Any], slices: Slices, chosen: Chosen, alpha: float) -> Numbers:
    """The effective sample size of each slice as a share of its images: 1 over the design effect."""
    if slices.clusters is None:
        return np.ones(len(slices.names))
    return 1 / design_effects(values.astype(np.float64), slices, chosen, alpha)


def measured_losses(
    change: NDArray[Any], slices: Slices, chosen: Chosen, images: Numbers, alpha: float, step: float
) -> Outcomes:
    """A mean loss on every slice, with how many images were lost and won, and the p-value of no loss."""
    lost, won = slices.sums(change > step, chosen), slices.sums(change < -step, chosen)
    if is_binary(np.abs(change)) and slices.clusters is None:
        p = mcnemar(lost, won)
    else:
        worth = _worth(change, slices, chosen, alpha)
        total, squares = slices.sums(change, chosen) * worth, slices.sums(change * change, chosen) * worth
        p = student_p(total, squares, np.maximum(images, 1) * worth)
    shown = zip(_outcomes(losses(change, slices, chosen, alpha), images), lost, won, p, strict=True)
    return [
        one.model_copy(update={"lost": int(b), "won": int(c), "p": float(q)}) if isinstance(one, Measured) else one
        for one, b, c, q in shown
    ]


def _outcomes(interval: Interval, images: Numbers) -> Outcomes:
    return [_outcome(interval, place, int(number)) for place, number in enumerate(images)]


def _outcome(interval: Interval, place: int, images: int) -> Measured | Unmeasured:
    if images == 0:
        return Unmeasured(reason="no image of this slice was tried", images=0)
    return Measured(
        value=float(interval.value[place]),
        low=float(interval.low[place]),
        high=float(interval.high[place]),
        images=images,
    )


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
        counts = [_error_counts(answers, positive, slices, pair.chosen) for positive in positives]
        for place, (name, title) in enumerate(((_ERRORS[0][0], "positive"), (_ERRORS[1][0], "negative"))):
            wrong = np.array([count[2 * place] for count in counts])
            total = np.array([count[2 * place + 1] for count in counts])
            share = np.where(total > 0, wrong / np.maximum(total, 1), -1.0)
            worst = share.argmax(axis=0)[None]
            bad, seen = np.take_along_axis(wrong, worst, 0)[0], np.take_along_axis(total, worst, 0)[0]
            interval = wilson(bad, np.maximum(seen, 1), alpha)
            for spot, slice_name in enumerate(slices.names):
                found = _outcome(interval, spot, int(seen[spot]))
                if isinstance(found, Unmeasured):
                    found = Unmeasured(reason=f"no image of this slice has a {title} target")
                yield Reading(metric=f"{kind}{name}.{pair.name}", slice=slice_name, outcome=found)


def _error_counts(
    answers: Predictions, positive: int, slices: Slices, chosen: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], ...]:
    """For each slice: positives missed, positives, false alarms, negatives."""
    is_it, said_it = answers["target"] == positive, answers["answer"] == positive
    parts = (is_it & ~said_it, is_it, ~is_it & said_it, ~is_it)
    return tuple(slices.sums(part, chosen) for part in parts)
