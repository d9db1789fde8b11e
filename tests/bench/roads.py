"""Whether models with wrong preprocessing are stopped before an audit, and what a road costs the person.

``python -m tests.bench.roads`` prints one JSON line::

    roads                      roads of the guide that were walked, from `init` to a decision
    roads_right                roads on which both accuracies are those of an independent script
    median_commands            commands that a road takes
    median_files               files that the person has to write or read over
    pairs                      classifiers, detectors and segmenters x mistakes: missing mean and std, BGR, 0..255,
                               wrong resize, class order
    wrong_preprocessing        pairs whose accuracy is more than 5 points below the network's own
    wrong_preprocessing_caught those that stop the audit, with the right form or order among what was tried
    silent_wrong               those that do not stop it
    false_alarms               networks that are given images as they were trained to, and are stopped

The independent script is ``tests.roads.small``: Pillow, numpy and torch alone.
"""

from __future__ import annotations

import json
import math
import re
import shlex
import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from auditsvc.datasets import Dataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import InvalidInput
from auditsvc.models import ArchitectureCard, InputSpec, Model
from auditsvc.models.preprocessing import PRESETS
from auditsvc.records.architecture import Preprocessing, Resize
from auditsvc.services.inspection import answered
from auditsvc.services.parent_check import check_model
from auditsvc.tasks import task_named
from tests.roads import small
from tests.roads.conftest import Person, quick
from tests.roads.test_roads import MAKERS, ROADS

IMAGES, FAR = 200, 0.05
"""Images of the pairs; a measured accuracy further below the network's own is wrong."""

LARGE = 48
"""The side of images that have to be scaled to the network's."""

RIGHT = {
    "imagenet": PRESETS["imagenet"],
    "cifar10": PRESETS["cifar10"],
    "minus-one-to-one": PRESETS["minus-one-to-one"],
    "bytes": {"range": (0.0, 255.0), "mean": (127.0, 127.0, 127.0), "std": (64.0, 64.0, 64.0)},
    "caffe": PRESETS["caffe"],
    "own": {"mean": (0.4, 0.4, 0.4), "std": (0.1, 0.1, 0.1)},
}
"""How each network was trained to see images."""


def prepared(pixels: np.ndarray, made: Preprocessing) -> torch.Tensor:
    """Images of the network's size as this preprocessing makes them, written again without auditsvc."""
    images = torch.from_numpy(pixels[..., ::-1].copy() if made.channels == "bgr" else pixels).permute(0, 3, 1, 2)
    images = images.float() / 255 * (made.range[1] - made.range[0]) + made.range[0]
    mean, std = (torch.tensor(value or (default,)) for value, default in ((made.mean, 0.0), (made.std, 1.0)))
    return (images - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)


def mistakes(right: Preprocessing) -> Iterator[tuple[str, Preprocessing]]:
    """Common wrong forms of the same images."""
    yield "missing mean and std", right.model_copy(update={"mean": (), "std": (), "range": (0.0, 1.0)})
    yield "BGR", right.model_copy(update={"channels": "rgb" if right.channels == "bgr" else "bgr"})
    wide = (0.0, 1.0) if right.range[1] == 255 else (0.0, 255.0)
    yield "0..255", right.model_copy(update={"range": wide})
    yield "wrong resize", right.model_copy(update={"resize": Resize(size=LARGE), "crop": (small.SIDE, small.SIDE)})


def data(folder: Path, classes: tuple[str, ...] = small.CLASSES) -> Dataset:
    """Images of twice the network's size, as a folder of classes; other names give the classes another order."""
    pixels, labels = small.pictures(IMAGES, 5)
    small.image_folder(folder, (pixels.repeat(2, axis=1).repeat(2, axis=2), labels), classes)
    return DatasetReaders().open(folder)


class Undone(nn.Module):
    """A network that takes images as this preprocessing makes them, of one that takes them in RGB and 0..1."""

    def __init__(self, network: nn.Module, made: Preprocessing) -> None:
        super().__init__()
        self.network, self.made = network, made

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The network's own outputs."""
        made = self.made
        mean, std = (torch.tensor(value or (default,)) for value, default in ((made.mean, 0.0), (made.std, 1.0)))
        images = images * std.view(1, -1, 1, 1) + mean.view(1, -1, 1, 1)
        images = (images - made.range[0]) / (made.range[1] - made.range[0])
        found: torch.Tensor = self.network(images.flip(1) if made.channels == "bgr" else images)
        return found


def stopped(network: nn.Module, made: Preprocessing, dataset: Dataset, side: int = small.SIDE) -> tuple[float, str]:
    """What auditsvc measures of a network with this card, and what the check says; empty if it lets the model pass."""
    size, kind, classes = InputSpec(channels=3, height=side, width=side), dataset.ref.task, dataset.classes
    card = ArchitectureCard(architecture="given", task=kind, classes=classes, input=size, preprocessing=made)
    model, task = Model(network, card), task_named(kind, classes)
    measured = answered(model, dataset, np.arange(dataset.ref.images), task)["score"].mean()
    try:
        check_model("the parent", model, task, dataset, 1)
    except InvalidInput as error:
        return float(measured), str(error)
    return float(measured), ""


def pairs(folder: Path) -> Iterator[dict[str, object]]:
    """Every network with every mistake: its own accuracy, what is measured, and what the check says."""
    sorted_data, pixels = data(folder / "photos"), small.pictures(IMAGES, 5)
    renamed = data(folder / "renamed", ("d", "c", "b", "a"))
    for name, fields in RIGHT.items():
        right = Preprocessing.model_validate({"resize": Resize(size=(small.SIDE, small.SIDE)), **fields})
        network = small.trained(prepare=partial(prepared, made=right))
        with torch.inference_mode():
            own = float((network(prepared(pixels[0], right)).argmax(1).numpy() == pixels[1]).mean())
        given = [("none", right, sorted_data), *((kind, made, sorted_data) for kind, made in mistakes(right)),
                 ("class order", right, renamed)]  # fmt: skip
        for mistake, made, images in given:
            measured, said = stopped(network, made, images)
            yield {"network": name, "mistake": mistake, "own": own, "measured": measured, "said": said}
    yield from pairs_of_cells(folder)


def pairs_of_cells(folder: Path) -> Iterator[dict[str, object]]:
    """The same of a detector and of a segmenter, on images of their size."""
    pixels = small.cells(IMAGES, 3)
    small.coco(folder / "boxes", IMAGES, 3)
    turned = small.coco(folder / "turned", IMAGES, 3) / "annotations.json"
    swapped = re.sub(r'(?<="category_id": )[12]', lambda found: str(3 - int(found[0])), turned.read_text())
    turned.write_text(swapped)
    small.masks(folder / "masks", IMAGES, 3)
    for mask in (small.masks(folder / "inverted", IMAGES, 3) / "masks").iterdir():
        Image.fromarray(255 - np.asarray(Image.open(mask))).save(mask)
    kinds = {"detector": (small.CellDetector(), small.mean_f1, "boxes", "turned"),
             "segmenter": (small.PixelSegmenter(), small.mean_iou, "masks", "inverted")}  # fmt: skip
    for kind, (network, score, place, other) in kinds.items():
        images, renamed = (DatasetReaders().open(folder / name) for name in (place, other))
        own = score(network.eval(), *pixels)
        for name, fields in RIGHT.items():
            right = Preprocessing.model_validate(fields)
            wrong = ((what, made, images) for what, made in mistakes(right) if what != "wrong resize")
            given = [("none", right, images), *wrong, ("class order", right, renamed)]
            for mistake, made, data_set in given:
                measured, said = stopped(Undone(network, right), made, data_set, 32)
                yield {"network": f"{kind} {name}", "mistake": mistake, "own": own, "measured": measured, "said": said}


def walked() -> list[tuple[str, int, int, bool]]:
    """Each road of the guide: its title, commands, files to read, and whether both accuracies are right."""
    dense, found = small.trained(), []
    for title, make in MAKERS.items():
        with tempfile.TemporaryDirectory() as scratch, pytest.MonkeyPatch.context() as patch:
            folder = Path(scratch) / "files"
            folder.mkdir()
            quick(patch, Path(scratch))
            try:
                expected = make(folder, (dense, small.pruned(dense, 0.8)), small.pictures(160, 5))
            except pytest.skip.Exception:  # a library that is not on this machine
                continue
            before, person = set(folder.iterdir()), Person(folder)
            *_, decision = (person.call(*shlex.split(command)) for command in ROADS[title])
            clean = decision.get("clean", {})
            got = [clean.get("parent", math.nan), clean.get("score", math.nan)]
            right = all(math.isnan(want) or abs(want - have) < 1e-6 for want, have in zip(expected, got, strict=True))
            found.append((title, person.commands, len(set(folder.iterdir()) - before), right))
    return found


def main() -> None:
    """Print the line."""
    torch.set_num_threads(1)
    roads = walked()
    with tempfile.TemporaryDirectory() as scratch:
        rows = list(pairs(Path(scratch)))
    mistaken = [row for row in rows if row["mistake"] != "none"]
    wrong = [row for row in mistaken if float(str(row["measured"])) < float(str(row["own"])) - FAR]
    print(
        json.dumps(
            {
                "roads": len(roads),
                "roads_right": sum(right for *_, right in roads),
                "median_commands": statistics.median(commands for _, commands, _, _ in roads),
                "median_files": statistics.median(files for _, _, files, _ in roads),
                "pairs": len(mistaken),
                "wrong_preprocessing": len(wrong),
                "wrong_preprocessing_caught": sum(bool(row["said"]) for row in wrong),
                "silent_wrong": sum(not row["said"] for row in wrong),
                "false_alarms": sum(bool(row["said"]) for row in rows if row["mistake"] == "none"),
            }
        )
    )


if __name__ == "__main__":
    main()
