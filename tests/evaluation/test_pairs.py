"""Readings of every slice against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.datasets import MISSING, Slices, column_from
from auditsvc.evaluation import student, tango, wilson
from auditsvc.evaluation.intervals import hall_interval, mcnemar
from auditsvc.evaluation.paired import empty_predictions, packed, paired_readings
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


def test_graded_scores_get_the_wider_of_students_and_halls_ends():
    chance = np.random.default_rng(0)
    parent, candidate = np.ones(200), 1 - np.where(chance.random(200) < 0.3, chance.beta(0.8, 2, 200), 0.0)
    (found,) = (r.outcome for r in paired_readings("x", parent, candidate, Slices(200, ()), None, 0.05)
                if r.metric == "drop.x")  # fmt: skip
    sums = [float(((parent - candidate) ** power).sum()) for power in (1, 2, 3)]
    ends = student(sums[0], sums[1], 200, 0.05, -1.0, 1.0), hall_interval(*sums, 200, 0.05)
    assert found.value == pytest.approx(sums[0] / 200)
    assert found.low == pytest.approx(min(float(one.low) for one in ends))
    assert found.high == pytest.approx(max(float(one.high) for one in ends))
    assert found.lost == int((candidate < 1).sum()) and found.won == 0


def test_few_changes_of_graded_scores_are_judged_by_their_mass():
    parent, candidate = np.array([0.9, 0.8, 1.0, 0.7]), np.array([0.8, 0.8, 0.7, 0.8])
    found = {r.metric: r.outcome for r in paired_readings("x", parent, candidate, Slices(4, ()), None, 0.05)}
    expected = tango(0.4, 0.1, 4, 0.05)
    assert found["drop.x"].value == pytest.approx(0.075)
    assert found["drop.x"].low == pytest.approx(float(expected.low))
    assert found["drop.x"].high == pytest.approx(float(expected.high))
    assert (found["drop.x"].lost, found["drop.x"].won) == (2, 1)


def test_equal_graded_scores_are_as_certain_as_equal_answers():
    scores = np.full(100, 0.6)
    found = {r.metric: r.outcome for r in paired_readings("x", scores, scores, Slices(100, ()), None, 0.05)}
    expected = tango(0, 0, 100, 0.05)
    assert found["drop.x"].value == 0
    assert found["drop.x"].high == pytest.approx(float(expected.high)) and found["drop.x"].high < 0.03


def test_images_are_lost_only_by_more_than_the_step():
    parent, candidate = np.array([0.9, 0.9, 0.9]), np.array([0.88, 0.8, 0.99])
    (found,) = (r.outcome for r in paired_readings("x", parent, candidate, Slices(3, ()), None, 0.05, step=0.05)
                if r.metric == "drop.x")  # fmt: skip
    assert (found.lost, found.won) == (1, 1)


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
    answers = empty_predictions(3, 0)
    answers["score"], answers["answer"], answers["target"] = scores, numbers, [0, 1, 2]
    small = packed(answers)
    assert all(small[name].tolist() == answers[name].tolist() for name in ("score", "answer", "target"))
    assert small.dtype.itemsize <= answers.dtype.itemsize
