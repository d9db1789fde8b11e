"""Damage in both directions, and the class that paid."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from auditsvc.checks.prediction_churn import PredictionChurn
from auditsvc.evaluation import tango
from auditsvc.records import OVERALL
from tests.fakes.models import array_dataset, case_of


class Says(nn.Module):
    """Answers what is written in the first pixel's channel: (parent, candidate)[which], in hundredths."""

    def __init__(self, which: int, classes: int) -> None:
        super().__init__()
        self.which, self.classes = which, classes

    def forward(self, images):
        said = (images[:, self.which, 0, 0] * 100).round().long()
        return nn.functional.one_hot(said, self.classes).float()


def a_case(rows, classes=3):
    """Rows of (target, parent's answer, candidate's answer, kind)."""
    images = torch.zeros(len(rows), 3, 4, 4)
    for number, (_, parent, candidate, _) in enumerate(rows):
        images[number, 0], images[number, 1] = parent / 100, candidate / 100
    names = tuple(f"class{number}" for number in range(classes))
    dataset = array_dataset(images, np.array([row[0] for row in rows]), {"kind": [row[3] for row in rows]}, names)
    return case_of(Says(1, classes), Says(0, classes), dataset)


ROWS = [(0, 0, 0, "a")] * 50 + [(0, 0, 1, "a")] * 5 + [(1, 2, 1, "b")] * 5 + [(2, 1, 0, "b")] * 3 + [(2, 2, 2, "b")] * 7


def found_in(case):
    return {(reading.metric, reading.slice): reading.outcome for reading in PredictionChurn().measure(case)}


def test_every_changed_answer_is_counted_in_its_direction():
    found = found_in(a_case(ROWS))
    assert [found[metric, OVERALL].value for metric in ("negative_flip_rate", "positive_flip_rate", "churn")] == [
        5 / 70,
        5 / 70,
        13 / 70,
    ]
    assert [found[metric, "kind=a"].value for metric in ("negative_flip_rate", "positive_flip_rate", "churn")] == [
        5 / 55,
        0.0,
        5 / 55,
    ]


def test_a_class_that_falls_is_seen_though_another_one_rises():
    found = found_in(a_case(ROWS))["drop.worst_class", OVERALL]
    assert found.value == 5 / 55
    assert found.high == max(float(tango(5, 0, 55, 0.05).high), 1 - 0.05 ** (1 / 10))
    assert found.low == float(tango(5, 0, 55, 0.05 / 3).low)


def test_a_class_that_no_image_of_a_slice_has_is_not_compared_there():
    found = found_in(a_case(ROWS))["drop.worst_class", "kind=b"]
    assert (found.value, found.images) == (0.0, 15)


def test_every_metric_is_given_on_every_slice():
    case = a_case(ROWS)
    given = found_in(case)
    assert set(given) == {(m.id, s) for m in PredictionChurn().metrics() for s in case.dataset.slices.names}
