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

from auditsvc.checks.average_precision import OVERLAPS, AveragePrecision, Ranked, average_precision, ranked
from auditsvc.datasets import Batch
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.records import Unmeasured
from auditsvc.tasks.boxes import CROWD, match_detections, select_detections
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


def crowded(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """``world`` with crowds of a class that many answers, also of other classes, are in, with answers that are equally
    sure, with two objects at one place, and with a class that no image has."""
    outputs, targets = world(seed, images=25, classes=4)
    chance = np.random.default_rng(seed + 1000)
    outputs[..., 7] = 0
    outputs[..., 4:] = (outputs[..., 4:] * 8).ceil() / 8  # ties, and none below the least confidence
    targets[..., 0] = targets[..., 0].clamp(max=2)
    for number in range(0, 25, 2):
        low = chance.uniform(0, 0.4, 2)
        kind = int(chance.integers(0, 3))
        targets[number, 8] = torch.tensor([CROWD - kind, *low, *(low + 0.5)])
        targets[number, 7] = targets[number, 0]
        for place in range(12, 20):
            corner = low + chance.uniform(-0.1, 0.4, 2)
            outputs[number, place, :4] = torch.tensor([*corner, *(corner + chance.uniform(0.03, 0.2, 2))])
            outputs[number, place, 4 + int(chance.integers(0, 3))] = 0.625
    return outputs, targets


@pytest.mark.parametrize("seed", range(8))
def test_average_precision_is_pycocotools_with_crowds_ties_and_empty_classes(seed):
    pytest.importorskip("pycocotools")
    outputs, targets = crowded(seed)
    card = ArchitectureCard(
        architecture="fake", task="detection", classes=tuple("abcd"), input=InputSpec(channels=1, height=8, width=8)
    )
    made = ranked(Model(Table(outputs), card), batches(targets), 4)
    found = average_precision(made, np.ones((1, len(targets))))[0]
    assert (found.mean(), found[0], found[5]) == pytest.approx(coco(outputs, targets), abs=1e-9)


def test_a_false_answer_in_a_crowd_of_another_class_is_false_and_one_of_its_own_is_not_counted():
    target = torch.tensor([[[CROWD - 1, 0.0, 0.0, 1.0, 1.0], [0, 0.1, 0.1, 0.3, 0.3]]])
    boxes = [[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.7, 0.7]]
    for kind, counts in ((0, True), (1, False)):
        said = torch.zeros(1, 2, 6)
        said[0, :, :4] = torch.tensor(boxes)
        said[0, 0, 4], said[0, 1, 4 + kind] = 0.9, 0.8
        found = select_detections(said)
        which, counted = match_detections(found, target)
        assert which.tolist() == [[1, -1]]
        assert counted.tolist() == [[True, counts]]


def test_the_best_hundred_are_cut_after_suppression():
    said = torch.zeros(1, 300, 5)
    for number in range(300):
        place = number if number < 40 else 0  # 260 answers at one place, all surer than the others
        said[0, number] = torch.tensor([place / 50, 0, (place + 1) / 50, 0.1, 0.6 if number < 40 else 0.9])
    assert int(select_detections(said).selected.sum()) == 40


def coco(outputs: torch.Tensor, targets: torch.Tensor) -> tuple[float, float, float]:
    """What pycocotools finds: AP, at half overlap, at three quarters."""
    from pycocotools.coco import COCO as Truth
    from pycocotools.cocoeval import COCOeval

    found = select_detections(outputs, 0.001)
    truth = Truth()
    boxes = [
        (n, int(t[0]), *(t[1:].double() * 1000).tolist()) for n, each in enumerate(targets) for t in each if t[0] != -1
    ]
    truth.dataset = {
        "info": {}, "images": [{"id": n, "width": 1000, "height": 1000} for n in range(len(targets))],
        "categories": [{"id": c, "name": str(c)} for c in range(outputs.shape[2] - 4)],
        "annotations": [{"id": i + 1, "image_id": n, "category_id": c if c >= 0 else CROWD - c,
                         "bbox": [x, y, u - x, v - y], "iscrowd": int(c < 0),
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
    there = [part[part > -1].mean() for part in (precision, precision[0], precision[5])]
    return float(there[0]), float(there[1]), float(there[2])


if __name__ == "__main__":
    print({seed: coco(*world(seed)) for seed in (0, 1, 2)})
