"""Readings of every slice against a count by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditsvc.datasets import MISSING, Slices, column_from
from auditsvc.evaluation import tango, wilson
from auditsvc.evaluation.intervals import Interval, Units, bounded_mean, mcnemar
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
            if score is None and lost + won == 0:
                reach = 1 - 0.05 ** (1 / total)
                interval = Interval(interval.value, -reach, reach)
            outcome = as_outcome(interval, total)
            if score is None:
                p = float(mcnemar(lost, won))
                outcome = outcome.model_copy(update={"lost": lost, "won": won, "p": p})
            expected.append(Reading(metric=metric, slice=name, outcome=outcome))
    assert list(paired_readings("x", parent, candidate, slices, None, 0.05)) == expected


def drop_of(parent, candidate, slices):
    return next(one.outcome for one in paired_readings("x", parent, candidate, slices, None, 0.05)
                if one.metric == "drop.x" and one.slice == OVERALL)  # fmt: skip


def test_graded_scores_get_the_interval_of_any_scores_on_their_scale():
    chance = np.random.default_rng(0)
    parent, candidate = np.ones(200), 1 - np.where(chance.random(200) < 0.3, chance.beta(0.8, 2, 200), 0.0)
    found, change, ones = drop_of(parent, candidate, Slices(200, ())), parent - candidate, np.ones(200)
    expected = bounded_mean(Units(np.zeros(200, np.int64), change, ones, ones, 1), 0.05, -1.0, 1.0)
    assert found.value == pytest.approx(change.mean())
    assert (found.low, found.high) == pytest.approx((float(expected.low[0]), float(expected.high[0])))
    assert found.lost == int((candidate < 1).sum()) and found.won == 0


def test_equal_graded_scores_still_leave_three_in_n_to_an_unseen_loss():
    found = drop_of(np.full(100, 0.6), np.full(100, 0.6), Slices(100, ()))
    assert found.value == 0
    assert found.high == pytest.approx(1 - 0.05**0.01)


def test_a_hundred_thousand_graded_images_are_counted_in_steps_and_give_the_same_ends():
    rng = np.random.default_rng(2)
    change = rng.normal(0, 0.1, 20_000).clip(-1, 1)
    found = drop_of(np.maximum(change, 0), np.maximum(-change, 0), Slices(20_000, ()))
    ones = np.ones(20_000)
    expected = bounded_mean(Units(np.zeros(20_000, np.int64), change, ones, ones, 1), 0.05, -1.0, 1.0)
    assert found.value == pytest.approx(change.mean())
    assert (found.low, found.high) == pytest.approx((float(expected.low[0]), float(expected.high[0])), abs=1e-7)


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
