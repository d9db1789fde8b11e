"""Objects are found as COCO finds them, image by image, whatever batch they come in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from auditsvc.tasks import task_named
from auditsvc.tasks.boxes import box_iou, select_detections
from auditsvc.tasks.detection import Detection
from tests.fakes import boxes

TASK = Detection(("cat", "dog"))
LEFT, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.6, 0.6, 1.0, 1.0)


def answers(*found: tuple[tuple[float, ...], int, float], room: int = 6) -> torch.Tensor:
    """``(1, room, 6)``: boxes with a class and a confidence."""
    rows = torch.zeros(1, room, 6)
    for place, (box, kind, sure) in enumerate(found):
        rows[0, place, :4] = torch.tensor(box)
        rows[0, place, 4 + kind] = sure
    return rows


def objects(*there: tuple[int, tuple[float, ...]], room: int = 4) -> torch.Tensor:
    rows = torch.full((1, room, 5), -1.0)
    for place, (kind, box) in enumerate(there):
        rows[0, place] = torch.tensor((float(kind), *box))
    return rows


def judged(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, list[int]]:
    found = TASK.score_batch(outputs, targets)
    return round(float(found.score[0]), 6), found.tally[0].tolist()


def test_found_missed_and_made_up_are_counted_for_each_class():
    outputs = answers((LEFT, 0, 0.9), (RIGHT, 0, 0.8))
    assert judged(outputs, objects((0, LEFT), (1, RIGHT))) == (0.5, [1, 0, 1, 0, 1, 0])
    assert judged(outputs, objects((0, LEFT), (0, RIGHT))) == (1.0, [2, 0, 0, 0, 0, 0])


def test_an_empty_image_is_right_if_nothing_is_said_of_it():
    assert judged(answers(), objects()) == (1.0, [0] * 6)
    assert judged(answers((LEFT, 1, 0.6)), objects()) == (0.0, [0, 0, 0, 0, 0, 1])
    assert judged(answers(), objects((0, LEFT))) == (0.0, [0, 1, 0, 0, 0, 0])


def test_answers_below_the_operating_point_are_not_given():
    assert judged(answers((LEFT, 0, 0.49)), objects((0, LEFT)))[0] == 0.0
    assert judged(answers((LEFT, 0, 0.5)), objects((0, LEFT)))[0] == 1.0


def test_one_object_is_found_once_and_by_the_surest():
    near = (0.0, 0.0, 0.4, 0.42)
    assert judged(answers((LEFT, 0, 0.9), (near, 0, 0.8)), objects((0, LEFT))) == (1.0, [1, 0, 0, 0, 0, 0])
    far = (0.0, 0.0, 0.4, 0.19)
    assert box_iou(torch.tensor([[LEFT]]), torch.tensor([[far]])).item() < 0.5
    assert judged(answers((LEFT, 0, 0.9), (far, 0, 0.8)), objects((0, LEFT))) == (0.666667, [1, 0, 1, 0, 0, 0])


def test_an_answer_in_a_crowd_is_no_false_alarm():
    crowd = objects((-2, (0.5, 0.5, 1.0, 1.0)))
    assert judged(answers((RIGHT, 0, 0.9)), crowd) == (1.0, [0] * 6)
    assert judged(answers((LEFT, 0, 0.9)), crowd) == (0.0, [0, 0, 1, 0, 0, 0])


def test_what_is_not_a_number_is_no_answer():
    broken = answers((LEFT, 0, 0.9))
    broken[0, 0, 2] = float("nan")
    assert judged(broken, objects((0, LEFT)))[0] == 0.0


def reference(outputs: np.ndarray, targets: np.ndarray) -> tuple[int, int, int]:
    """Found, missed and false of one image, in plain loops after the papers."""
    rows = sorted(((*row[:4], int(row[4:].argmax()), row[4:].max()) for row in outputs), key=lambda row: -row[5])
    kept: list[tuple] = []
    for row in rows:
        if row[5] >= 0.5 and not any(row[4] == one[4] and iou(row, one) > 0.5 for one in kept):
            kept.append(row)
    free = [row for row in targets if row[0] >= 0]
    found = 0
    for row in kept:
        fits = [(iou(row, one[1:]), place) for place, one in enumerate(free) if one[0] == row[4]]
        best = max(fits, default=(0.0, -1))
        if best[0] >= 0.5:
            free.pop(best[1])
            found += 1
    return found, len(free), len(kept) - found


def iou(one, other) -> float:
    wide, high = (max(0.0, min(one[2 + axis], other[2 + axis]) - max(one[axis], other[axis])) for axis in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    whole = sum(areas) - wide * high
    return wide * high / whole if whole > 0 else 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_counts_are_those_of_plain_loops_in_any_batch_and_padding(seed):
    outputs, targets = boxes.crowded(np.random.default_rng(seed), images=5)
    whole = TASK.score_batch(outputs, targets)
    for place in range(5):
        alone = TASK.score_batch(outputs[place : place + 1], torch.nn.functional.pad(
            targets[place : place + 1], (0, 0, 0, 3), value=-1.0))  # fmt: skip
        assert torch.equal(alone.tally[0], whole.tally[place]) and alone.score[0] == whole.score[place]
        assert alone.answer[0] == whole.answer[place]
        counts = whole.tally[place].reshape(2, 3).sum(0).tolist()
        assert tuple(counts) == reference(outputs[place].numpy().astype(float), targets[place].numpy().astype(float))


def test_the_answers_of_a_model_are_all_found_if_they_are_the_targets():
    outputs, _ = boxes.crowded(np.random.default_rng(3), images=8)
    assert TASK.scores(outputs, TASK.as_targets(outputs)).tolist() == [1.0] * 8
    assert int(select_detections(outputs).selected.sum()) > 8


def test_the_loss_falls_when_an_object_is_found_and_rises_when_one_is_made_up():
    there = objects((0, LEFT))
    losses = [
        float(TASK.loss(answers(*found), there))
        for found in ([(LEFT, 0, 0.9)], [(LEFT, 0, 0.4)], [(LEFT, 0, 0.4), (RIGHT, 1, 0.9)])
    ]
    assert losses == sorted(losses)
    moving = answers((LEFT, 0, 0.6)).requires_grad_(True)
    TASK.loss(moving, there).sum().backward()
    assert moving.grad is not None and moving.grad[0, 0, 4] < 0


def test_a_reader_is_told_what_was_found():
    found = TASK.score_batch(answers((LEFT, 0, 0.9), (RIGHT, 0, 0.8)), objects((0, LEFT), (1, RIGHT)))
    row = np.zeros(1, [("tally", "i4", (6,))])
    row["tally"] = found.tally.numpy()
    assert TASK.describe_answer(row[0]) == "1 of 2 found, 1 false positive"
    assert TASK.describe_target(objects((0, LEFT), (1, RIGHT), (1, LEFT))[0]) == "1 cat, 2 dog"
    assert TASK.describe_target(objects()[0]) == "nothing"


def test_a_task_of_another_name_is_refused():
    with pytest.raises(Exception, match="there is no task 'guessing'"):
        task_named("guessing", ("a",))
