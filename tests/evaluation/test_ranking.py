"""Average precision against COCO's own numbers, and its weights against images that are really there so often.

The numbers are what pycocotools 2.0.11 gives for the same boxes; where it is installed,
``python -m tests.evaluation.test_ranking`` prints them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from auditsvc.checks.average_precision import AveragePrecision
from auditsvc.datasets import Batch
from auditsvc.evaluation.metrics.coco_ap import OVERLAPS, Ranked, average_precision, ranked
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.records import Unmeasured
from tests.fakes.dense import SeesSquares, case_of_squares

COCO = {
    0: (0.3737020369373365, 0.7393838936719113, 0.2917341012199332),
    1: (0.355536319730995, 0.7066181642120788, 0.27825600837583925),
    2: (0.3744387493068474, 0.7719298340843952, 0.27523772306733535),
}
"""AP, AP at half overlap, at three quarters, by the seed of ``world``."""


class Table(nn.Module):
    """Answers from a table; an image's pixels hold its number."""

    def __init__(self, outputs: torch.Tensor) -> None:
        super().__init__()
        self.outputs = outputs

    def forward(self, images):
        return self.outputs[images[:, 0, 0, 0].round().long()]


def world(seed: int, images: int = 60, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs ``(N, A, 4 + C)`` and targets ``(N, M, 5)``: objects apart from each other, found more or less well."""
    chance = np.random.default_rng(seed)
    outputs, targets = np.zeros((images, 24, 4 + classes)), np.full((images, 9, 5), -1.0)
    for number in range(images):
        cells = chance.permutation(16)[: chance.integers(0, 10)]
        for place, cell in enumerate(cells):
            low = np.array([cell % 4, cell // 4]) / 4 + chance.uniform(0.01, 0.05, 2)
            kind = chance.integers(0, classes)
            targets[number, place] = (kind, *low, *(low + chance.uniform(0.1, 0.18, 2)))
            shaken = targets[number, place, 1:] + chance.normal(0, 0.012, 4)
            told = kind if chance.random() < 0.85 else chance.integers(0, classes)
            outputs[number, place, :4] = shaken
            outputs[number, place, 4 + told] = chance.beta(4, 2) if chance.random() < 0.9 else 0
        for place in range(9, 24):
            low = chance.uniform(0, 0.8, 2)
            outputs[number, place, :4] = (*low, *(low + chance.uniform(0.02, 0.2, 2)))
            outputs[number, place, 4 + chance.integers(0, classes)] = chance.beta(1, 6) * (chance.random() < 0.4)
    return torch.from_numpy(outputs).float(), torch.from_numpy(targets).float()


def batches(targets: torch.Tensor, size: int = 16) -> Iterator[Batch]:
    for start in range(0, len(targets), size):
        numbers = torch.arange(start, min(start + size, len(targets)))
        images = numbers.float()[:, None, None, None].expand(-1, 1, 8, 8)
        yield Batch(images, targets[numbers], numbers)


def ranking(seed: int, **how: int) -> Ranked:
    outputs, targets = world(seed, **how)
    classes = outputs.shape[2] - 4
    card = ArchitectureCard(
        architecture="fake", task="detection", classes=tuple("abcdef"[:classes]),
        input=InputSpec(channels=1, height=8, width=8),
    )  # fmt: skip
    return ranked(Model(Table(outputs), card), batches(targets), classes)


@pytest.mark.parametrize("seed", COCO)
def test_it_is_what_coco_finds(seed):
    found = average_precision(ranking(seed), np.ones((1, 60)))[0]
    assert (found.mean(), found[0], found[5]) == pytest.approx(COCO[seed], abs=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_a_weight_is_an_image_that_is_there_so_often(seed):
    made = ranking(seed, images=12)
    often = np.random.default_rng(seed).integers(0, 3, 12)
    again = np.repeat(np.arange(12), often)
    copies = [made.of(np.array([number])) for number in again]
    if not copies:
        return
    outputs, targets = world(seed, images=12)
    card = ArchitectureCard(architecture="fake", task="detection", classes=("a", "b", "c"),
                            input=InputSpec(channels=1, height=8, width=8))  # fmt: skip
    whole = ranked(Model(Table(outputs[again]), card), batches(targets[again]), 3)
    weighed = average_precision(made, often[None].astype(float))
    assert weighed == pytest.approx(average_precision(whole, np.ones((1, len(again)))), nan_ok=True)


def test_images_that_are_left_out_are_as_if_they_were_not_there():
    made, inside = ranking(3), np.arange(0, 60, 2)
    zeros = np.zeros((1, 60))
    zeros[0, inside] = 1
    part = average_precision(made.of(inside), np.ones((1, 30)))
    assert part == pytest.approx(average_precision(made, zeros))
    assert part.shape == (1, len(OVERLAPS)) and (np.diff(part[0]) <= 1e-12).all()


def test_a_detector_that_loses_the_dark_ones_loses_precision_and_a_small_group_is_unmeasured():
    case = case_of_squares(SeesSquares(least=0.5), SeesSquares(), images=100)
    found = list(AveragePrecision(draws=200).measure(case))
    assert {one.metric for one in found} == {one.id for one in AveragePrecision().metrics()}
    readings = {(one.metric, one.slice): one.outcome for one in found}
    loss = readings["drop.ap", "overall"]
    assert loss.value == pytest.approx(readings["parent_ap", "overall"].value - readings["ap", "overall"].value)
    assert readings["parent_ap", "overall"].value == 1 and loss.low > 0.2
    assert isinstance(readings["ap", "light=dim"], Unmeasured)
    same = case_of_squares(SeesSquares(), SeesSquares(), images=100)
    nothing = next(one.outcome for one in AveragePrecision(draws=200).measure(same) if one.metric == "drop.ap")
    assert nothing.value == 0 and 0.02 < nothing.high < 0.05


def coco(seed: int) -> tuple[float, float, float]:
    """What pycocotools finds: AP, at half overlap, at three quarters."""
    from pycocotools.coco import COCO as Truth
    from pycocotools.cocoeval import COCOeval

    from auditsvc.tasks.boxes import select_detections

    outputs, targets = world(seed)
    found = select_detections(outputs, 0.001)
    truth = Truth()
    boxes = [
        (n, int(t[0]), *(t[1:].double() * 1000).tolist()) for n, each in enumerate(targets) for t in each if t[0] >= 0
    ]
    truth.dataset = {
        "info": {}, "images": [{"id": n, "width": 1000, "height": 1000} for n in range(len(targets))],
        "categories": [{"id": c, "name": str(c)} for c in range(3)],
        "annotations": [{"id": i + 1, "image_id": n, "category_id": c, "bbox": [x, y, u - x, v - y], "iscrowd": 0,
                         "area": (u - x) * (v - y)} for i, (n, c, x, y, u, v) in enumerate(boxes)],
    }  # fmt: skip
    truth.createIndex()
    said = []
    for n in range(len(targets)):
        for box, score, kind, kept in zip(
            found.boxes[n], found.scores[n], found.classes[n], found.selected[n], strict=True
        ):
            if kept:
                x, y, u, v = (box.double() * 1000).tolist()
                said.append(
                    {"image_id": n, "category_id": int(kind), "bbox": [x, y, u - x, v - y], "score": float(score)}
                )
    evaluation = COCOeval(truth, truth.loadRes(said), "bbox")
    evaluation.params.areaRng = [[0, 1e10]]
    evaluation.params.areaRngLbl = ["all"]
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return float(precision.mean()), float(precision[0].mean()), float(precision[5].mean())


if __name__ == "__main__":
    print({seed: coco(seed) for seed in (0, 1, 2)})
