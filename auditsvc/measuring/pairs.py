"""From per-image scores of parent and candidate to readings for every slice.

0/1 scores get Wilson's and Tango's intervals; graded ones Student's, on the per-image differences.  Where the
images come in clusters, all of them count as the independent images that tell as much.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from auditsvc.measuring.clusters import design_effects
from auditsvc.measuring.dataset import Slices
from auditsvc.measuring.statistics import Interval, mcnemar, student, student_p, tango, wilson
from auditsvc.records import Measured, Reading, Unmeasured

Answers = NDArray[Any]
"""Structured ``(N,)``: ``score`` in 0..1, ``answer`` and ``target`` as whole numbers."""

ANSWER = np.dtype([("score", "<f4"), ("answer", "<i8"), ("target", "<i4")])


def packed(answers: Answers) -> Answers:
    """The same answers in the smallest numbers that hold them: a third of the room, which counts for a million."""
    binary = bool(((answers["score"] == 0) | (answers["score"] == 1)).all())
    kinds = {name: np.result_type(*map(np.min_scalar_type, _ends(answers[name]))) for name in ("answer", "target")}
    small = np.empty(len(answers), [("score", "u1" if binary else "<f4"), *kinds.items()])
    for name in ("score", "answer", "target"):
        small[name] = answers[name]
    return small


def _ends(numbers: NDArray[Any]) -> tuple[int, int]:
    return (int(numbers.min()), int(numbers.max())) if len(numbers) else (0, 0)


@dataclass(frozen=True)
class Pair:
    """Both models' answers to the same images under one condition; ``chosen`` are their numbers, None all."""

    name: str
    parent: Answers
    candidate: Answers
    chosen: NDArray[np.int64] | None


def paired_readings(
    name: str,
    parent: NDArray[Any],
    candidate: NDArray[Any],
    slices: Slices,
    chosen: NDArray[np.int64] | None,
    alpha: float,
) -> Iterator[Reading]:
    """``score.NAME``, ``parent.NAME`` and ``drop.NAME`` (parent minus candidate) on every slice.

    ``parent`` and ``candidate`` are ``(N,)`` scores in 0..1 of the same images; ``chosen`` are those images'
    numbers where not all of the data set was run.
    """
    images = slices.sums(np.ones(len(parent), np.bool_), chosen)
    binary = all(bool(((scores == 0) | (scores == 1)).all()) for scores in (parent, candidate))
    kind_of = np.int8 if binary else np.float64  # a million differences of 0 and 1 take a megabyte
    before: NDArray[Any] = parent.astype(kind_of)
    after: NDArray[Any] = candidate.astype(kind_of)
    found = {
        "score": _level(after, slices, chosen, images, alpha, binary=binary),
        "parent": _level(before, slices, chosen, images, alpha, binary=binary),
        "drop": _loss(before - after, slices, chosen, images, alpha, binary=binary),
    }
    for kind, outcomes in found.items():
        for slice_name, outcome in zip(slices.names, outcomes, strict=True):
            yield Reading(metric=f"{kind}.{name}", slice=slice_name, outcome=outcome)


Outcomes = list[Measured | Unmeasured]
Chosen = NDArray[np.int64] | None
Numbers = NDArray[np.float64]


def _level(
    values: NDArray[Any], slices: Slices, chosen: Chosen, images: Numbers, alpha: float, *, binary: bool
) -> Outcomes:
    """A mean score on every slice."""
    worth = _worth(values, slices, chosen, alpha)
    total, populated = slices.sums(values, chosen), np.maximum(images, 1)
    if binary:
        return _outcomes(wilson(total * worth, populated * worth, alpha), images)
    squares = slices.sums(values * values, chosen)
    return _outcomes(student(total * worth, squares * worth, populated * worth, alpha, 0.0, 1.0), images)


def _worth(values: NDArray[Any], slices: Slices, chosen: Chosen, alpha: float) -> Numbers:
    """For each slice the share of its images that tell as much as images that come alone."""
    if slices.clusters is None:
        return np.ones(len(slices.names))
    return 1 / design_effects(values.astype(np.float64), slices, chosen, alpha)


def _loss(
    change: NDArray[Any], slices: Slices, chosen: Chosen, images: Numbers, alpha: float, *, binary: bool
) -> Outcomes:
    """A mean loss on every slice, with how many images were lost and won, and the p-value of no loss."""
    worth = _worth(change, slices, chosen, alpha)
    populated = np.maximum(images, 1)
    lost, won = slices.sums(change > 0, chosen), slices.sums(change < 0, chosen)
    total, squares = slices.sums(change, chosen), slices.sums(change * change, chosen)
    if binary:
        interval = tango(lost * worth, won * worth, populated * worth, alpha)
    else:
        interval = student(total * worth, squares * worth, populated * worth, alpha, -1.0, 1.0)
    exact = binary and slices.clusters is None
    p = mcnemar(lost, won) if exact else student_p(total * worth, squares * worth, populated * worth)
    shown = zip(_outcomes(interval, images), lost, won, p, strict=True)
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


ERRORS = ("missed", "alarm", "parent_missed", "parent_alarm")
"""What ``error_readings`` emits before the condition's name."""


def error_readings(pair: Pair, classes: int, slices: Slices, alpha: float) -> Iterator[Reading]:
    """False negatives and false positives apart, on every slice: ``missed.NAME`` and ``alarm.NAME``.

    With two classes the second is the positive one: ``missed`` is the share of its images that were answered
    otherwise, ``alarm`` the share of the others that were answered as it.  With more, each class is the positive
    one in turn, and the worst is given; its interval is for one class and does not know that it was picked.
    """
    positives = range(1, 2) if classes == 2 else range(classes)
    for kind, answers in (("", pair.candidate), ("parent_", pair.parent)):
        counts = [_error_counts(answers, positive, slices, pair.chosen) for positive in positives]
        for place, (name, title) in enumerate((("missed", "positive"), ("alarm", "negative"))):
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
    answers: Answers, positive: int, slices: Slices, chosen: NDArray[np.int64] | None
) -> tuple[NDArray[np.float64], ...]:
    """For each slice: positives missed, positives, false alarms, negatives."""
    is_it, said_it = answers["target"] == positive, answers["answer"] == positive
    parts = (is_it & ~said_it, is_it, ~is_it & said_it, ~is_it)
    return tuple(slices.sums(part, chosen) for part in parts)
