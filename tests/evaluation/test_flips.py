"""Which images a comparison keeps: every kind of change, what broke first, as many as there is room for."""

from __future__ import annotations

import numpy as np
import torch

from auditsvc.evaluation.context import flips_of
from auditsvc.evaluation.paired import Pair, empty_predictions
from auditsvc.tasks.classification import Classification
from tests.fakes.models import array_dataset

TASK = Classification(("a", "b", "c"))
ROWS = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 2), (1, 1, 2), (2, 2, 2)]
"""Target, parent's answer, candidate's answer."""


def a_pair() -> Pair:
    answers = []
    for who in (1, 2):
        found = empty_predictions(len(ROWS), 0)
        found["target"], found["answer"] = [row[0] for row in ROWS], [row[who] for row in ROWS]
        found["score"] = found["target"] == found["answer"]
        answers.append(found)
    return Pair("clean", answers[0], answers[1], None)


def kept(most: tuple[int, int, int]) -> list[tuple[str, str, str, str]]:
    images = np.zeros((len(ROWS), 3, 2, 2), np.float32)
    dataset = array_dataset(torch.tensor(images), np.array([row[0] for row in ROWS]), classes=TASK.classes)
    return [(flip.image, flip.target, flip.parent, flip.candidate) for flip in flips_of(a_pair(), dataset, TASK, most)]


def test_every_changed_answer_is_kept_what_broke_first():
    assert kept((9, 9, 9)) == [
        ("#1", "a", "a", "b"),
        ("#4", "b", "b", "c"),
        ("#2", "a", "b", "a"),
        ("#3", "a", "b", "c"),
    ]


def test_one_kind_of_change_does_not_crowd_out_another():
    assert [image for image, *_ in kept((1, 1, 0))] == ["#1", "#2"]
