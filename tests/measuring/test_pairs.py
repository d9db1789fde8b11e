"""Readings of every slice against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.measuring import MISSING, Slices, column_from, student, tango, wilson
from auditsvc.measuring.pairs import no_answers, packed, paired_readings
from auditsvc.measuring.statistics import mcnemar
from auditsvc.records import OVERALL, Measured, Reading, Unmeasured

SCORES = st.lists(st.tuples(st.sampled_from((0.0, 1.0)), st.sampled_from((0.0, 1.0)), st.sampled_from("FM")),
                  min_size=1, max_size=40)  # fmt: skip


def as_outcome(interval, images):
    return Measured(value=float(interval.value), low=float(interval.low), high=float(interval.high), images=images)


@given(SCORES)
def test_right_and_wrong_answers_are_counted_slice_by_slice(rows):
    parent, candidate = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    kinds = [row[2] for row in rows]
    slices = Slices(len(rows), (column_from("kind", kinds),))
    expected = []
    for metric, score in (("score.x", candidate), ("parent.x", parent), ("drop.x", None)):
        for name in slices.names:
            inside = np.array([name in (OVERALL, f"kind={kind}") for kind in kinds])
            lost = int((inside & (parent > candidate)).sum())
            won = int((inside & (parent < candidate)).sum())
            total = int(inside.sum())
            interval = tango(lost, won, total, 0.05) if score is None else wilson(score[inside].sum(), total, 0.05)
            outcome = as_outcome(interval, total)
            if score is None:
                p = float(mcnemar(lost, won))
                outcome = outcome.model_copy(update={"lost": lost, "won": won, "p": p})
            expected.append(Reading(metric=metric, slice=name, outcome=outcome))
    assert list(paired_readings("x", parent, candidate, slices, None, 0.05)) == expected


def test_graded_scores_get_students_interval_of_the_differences():
    parent, candidate = np.array([0.9, 0.8, 1.0, 0.7]), np.array([0.8, 0.8, 0.7, 0.6])
    found = {r.metric: r.outcome for r in paired_readings("x", parent, candidate, Slices(4, ()), None, 0.05)}
    change = parent - candidate
    expected = student(change.sum(), (change**2).sum(), 4, 0.05, -1.0, 1.0)
    assert found["drop.x"].value == pytest.approx(0.125)
    assert (found["drop.x"].low, found["drop.x"].high) == (float(expected.low), float(expected.high))


def test_a_slice_of_which_no_image_was_tried_is_unmeasured():
    slices = Slices(4, (column_from("kind", ["a", "a", "b", "b"]),))
    chosen = np.array([0, 1])
    found = {(r.metric, r.slice): r.outcome for r in
             paired_readings("x", np.ones(2), np.ones(2), slices, chosen, 0.05)}  # fmt: skip
    assert found["score.x", "kind=b"] == Unmeasured(reason="no image of this slice was tried")
    assert found["score.x", "kind=a"].images == found["score.x", OVERALL].images == 2


def test_an_empty_metadata_field_is_a_slice_of_its_own():
    column = column_from("kind", ["a", " ", "", "b"])
    assert column.names == (f"kind={MISSING}", "kind=a", "kind=b")
    assert Slices(4, (column,)).sums(np.ones(4)).tolist() == [4, 2, 1, 1]
    assert Slices(4, (column,)).of(1) == (f"kind={MISSING}",)


@pytest.mark.parametrize("scores", [[0, 1, 1], [0.5, 1, 0]])
@pytest.mark.parametrize("numbers", [[0, 9, 3], [-1, 70_000, 2**40]])
def test_packed_answers_are_the_same_answers(scores, numbers):
    answers = no_answers(3, 0)
    answers["score"], answers["answer"], answers["target"] = scores, numbers, [0, 1, 2]
    small = packed(answers)
    assert all(small[name].tolist() == answers[name].tolist() for name in ("score", "answer", "target"))
    assert small.dtype.itemsize <= answers.dtype.itemsize
