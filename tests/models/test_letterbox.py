"""Images that keep their proportions in a padded frame: boxes and masks are where they are on the image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from auditsvc.datasets.readers import DatasetReaders
from auditsvc.datasets.scaling import scaled_for
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.models.preprocessing import letterbox
from auditsvc.records.architecture import Preprocessing, Resize
from auditsvc.tasks import task_named
from tests.roads import small

FRAME = (32, 32)
PADDED = Preprocessing(resize=Resize(size=FRAME, pad=114 / 255, antialias=False))


def card(task: str, classes: tuple[str, ...], made: Preprocessing = PADDED) -> ArchitectureCard:
    return ArchitectureCard(architecture="given", task=task, classes=classes, preprocessing=made,
                            input=InputSpec(channels=3, height=32, width=32))  # fmt: skip


@pytest.mark.parametrize(
    ("given", "frame", "place"),
    [((480, 640), (640, 640), (80, 0, 480, 640)), ((333, 500), (640, 640), (107, 0, 426, 640)),
     ((100, 50), (64, 96), (0, 32, 64, 32)), ((64, 96), (64, 96), (0, 0, 64, 96))],
)  # fmt: skip
def test_the_place_of_an_image_is_that_of_ultralytics(given, frame, place) -> None:
    assert letterbox(given, frame) == place


def photos(folder: Path, sizes: int) -> tuple[NDArray[np.uint8], list[list[tuple[int, int, int]]]]:
    """Two rows of the cells of each picture, twice as large, wide and (with two sizes) tall ones in turns."""
    pixels, objects = small.cells(12, 4)
    (folder / "images").mkdir(parents=True)
    images, boxes = [], []
    for number, (picture, inside) in enumerate(zip(pixels, objects, strict=True)):
        turned = sizes == 2 and number % 2
        part = np.kron(picture[:, 8:24] if turned else picture[8:24], np.ones((2, 2, 1), np.uint8))
        Image.fromarray(part).save(folder / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": part.shape[1], "height": part.shape[0]})
        for kind, x, y in inside:
            left, top = (x - 1, y) if turned else (x, y - 1)
            if 0 <= (left if turned else top) < 2:
                boxes.append({"image_id": number, "category_id": kind, "bbox": [16 * left, 16 * top, 16, 16]})
    (folder / "annotations.json").write_text(json.dumps({
        "images": images, "annotations": [{"id": number, **box} for number, box in enumerate(boxes)],
        "categories": [{"id": 0, "name": "blue"}, {"id": 1, "name": "red"}],
    }))  # fmt: skip
    return pixels, objects


@pytest.mark.parametrize("sizes", [1, 2])
def test_boxes_are_found_where_they_are(sizes: int, tmp_path: Path) -> None:
    """A detector of cells finds all through a frame that pads by a cell, and not where images are stretched."""
    photos(tmp_path, sizes)
    found = {}
    for name, pad in (("padded", 114 / 255), ("stretched", None)):
        made = Preprocessing(resize=Resize(size=FRAME, pad=pad, antialias=False))
        model = Model(small.CellDetector(), card("detection", ("blue", "red"), made))
        dataset = scaled_for(DatasetReaders().open(tmp_path), model.card)
        task = task_named("detection", dataset.classes)
        with torch.inference_mode():
            found[name] = torch.cat(
                [task.score_batch(model(batch.images), batch.targets).score for batch in dataset.batches(5)]
            )
    assert found["padded"].tolist() == [1.0] * 12
    assert found["stretched"].mean() < 0.8


class Bright(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        """One logit for every second pixel of the frame."""
        return images.mean(1, keepdim=True)[..., ::2, ::2] - 0.7


@pytest.mark.parametrize("sizes", [1, 2])
def test_the_padding_is_no_part_of_a_mask(sizes: int, tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for number in range(6):
        mask = np.zeros((16, 32), np.uint8)
        mask[:, : 4 * number + 4] = 255
        if sizes == 2 and number % 2:
            mask = mask.T
        Image.fromarray(mask).save(tmp_path / "masks" / f"{number}.png")
        Image.fromarray(np.stack([mask] * 3, 2)).save(tmp_path / "images" / f"{number}.png")
    model = Model(Bright(), card("segmentation", ("background", "foreground")))
    dataset = scaled_for(DatasetReaders().open(tmp_path), model.card)
    task = task_named("segmentation", dataset.classes)
    (batch,) = dataset.batches(6)
    with torch.inference_mode():
        judged = task.score_batch(model(batch.images), batch.targets)
    assert judged.score.min() > 0.9
    assert judged.tally.reshape(6, 2, 3)[:, :, 2].sum(1).tolist() == [16 * 32] * 6  # pixels that count
