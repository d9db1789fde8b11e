"""Pixels are counted as the papers count them, and those that don't count don't."""

from __future__ import annotations

import numpy as np
import torch

from auditsvc.tasks.segmentation import Segmentation

TASK = Segmentation(("ground", "road", "sign"))


def logits(classes: np.ndarray) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(classes), 3).permute(0, 3, 1, 2).float() * 4


def reference(said: np.ndarray, there: np.ndarray) -> float:
    """Mean IoU over the classes that are said or there, with sets of pixels."""
    counts = there != 255
    each = []
    for kind in range(3):
        one, other = (said == kind) & counts, (there == kind) & counts
        if (one | other).any():
            each.append((one & other).sum() / (one | other).sum())
    return float(np.mean(each))


def test_scores_are_mean_iou_over_what_is_there_or_said():
    chance = np.random.default_rng(0)
    said, there = chance.integers(0, 3, (2, 20, 8, 8))
    there[chance.random(there.shape) < 0.1] = 255
    said[0], there[0] = 0, 0
    found = TASK.score_batch(logits(said), torch.from_numpy(there.astype(np.uint8)))
    np.testing.assert_allclose(found.score, [reference(*pair) for pair in zip(said, there, strict=True)], rtol=1e-6)
    assert found.score[0] == 1.0
    shared, named, real = found.tally.reshape(20, 3, 3).sum(0).T.tolist()
    counted = there != 255
    assert shared == [int(((said == kind) & (there == kind)).sum()) for kind in range(3)]
    assert named == [int(((said == kind) & counted).sum()) for kind in range(3)]
    assert real == [int((there == kind).sum()) for kind in range(3)]


def test_smaller_answers_are_scaled_to_the_targets():
    there = np.zeros((1, 8, 8), np.int64)
    there[:, :, 4:] = 1
    half = logits(there[:, ::2, ::2])
    assert TASK.scores(half, torch.from_numpy(there)).item() == 1.0


def test_an_answer_changes_when_another_class_is_found_and_not_with_a_pixel():
    there = np.zeros((3, 8, 8), np.int64)
    there[:, :, 4:] = 1
    said = there.copy()
    said[1, 0, 0] = 1
    said[2] = 0
    found = TASK.score_batch(logits(said), torch.from_numpy(there))
    assert found.answer[0] == found.answer[1] != found.answer[2]
    assert float(found.score[0] - found.score[1]) < TASK.step < float(found.score[0] - found.score[2])


def test_what_is_not_a_number_scores_nothing():
    there = torch.zeros(1, 4, 4, dtype=torch.uint8)
    broken = logits(np.zeros((1, 4, 4), np.int64))
    broken[0, 1, 0, 0] = float("inf")
    assert TASK.scores(broken, there).item() == 0.0


def test_the_loss_ignores_pixels_that_do_not_count():
    there = torch.zeros(1, 4, 4, dtype=torch.uint8)
    there[0, 0, 0] = 255
    right = logits(np.zeros((1, 4, 4), np.int64))
    wrong = right.clone()
    wrong[0, :, 0, 0] = torch.tensor([0.0, 9.0, 0.0])
    assert torch.equal(TASK.loss(right, there), TASK.loss(wrong, there))
    wrong[0, :, 1, 1] = torch.tensor([0.0, 9.0, 0.0])
    assert TASK.loss(wrong, there) > TASK.loss(right, there)


def test_its_own_answers_score_one_and_are_told_class_by_class():
    said = np.array([[[0, 1], [1, 1]]])
    outputs = logits(said)
    assert TASK.scores(outputs, TASK.as_targets(outputs)).item() == 1.0
    row = np.zeros(1, [("score", "f4"), ("tally", "i4", (9,))])
    found = TASK.score_batch(outputs, torch.zeros(1, 2, 2, dtype=torch.uint8))
    row["score"], row["tally"] = found.score.numpy(), found.tally.numpy()
    assert TASK.describe_answer(row[0]) == "mean IoU 0.12: ground 0.25, road 0.00"
    assert TASK.describe_target(torch.tensor([[0, 1], [1, 255]])) == "ground 33%, road 67%"
