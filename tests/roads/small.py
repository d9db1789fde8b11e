"""Small models and data as people have them: files that torch, ONNX and Pillow write, and nothing of auditsvc.

Images of red and blue bars, tall or wide, with noise.  The network is trained on images that were normalised outside
of it, as most training scripts do; the candidate is the same network with its smallest weights at zero.  ``accuracy``
is the independent script: Pillow, numpy and torch alone.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

CLASSES = ("blue-tall", "blue-wide", "red-tall", "red-wide")
SIDE = 24
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Pictures = tuple[NDArray[np.uint8], NDArray[np.int64]]

FACTORY = """
from torch import nn


def make(width=8):
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 4),
    )
"""
"""A module of the user's own, with the network."""


def pictures(images: int, seed: int) -> Pictures:
    """``(N, 24, 24, 3)`` bytes in RGB and the class of each."""
    chance = np.random.default_rng(seed)
    labels = np.arange(images) % len(CLASSES)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    found = chance.normal(100, 30, (images, SIDE, SIDE, 3))
    for number, label in enumerate(labels):
        top, left = chance.integers(7, SIDE - 7, 2)
        away = np.abs((rows - top, columns - left))
        inside = (away[label % 2] < 6) & (away[1 - label % 2] < 2)
        found[number, inside, 0 if label >= 2 else 2] += chance.uniform(30, 100)
    return found.clip(0, 255).astype(np.uint8), labels


def normalised(images: NDArray[np.uint8]) -> torch.Tensor:
    """As the training script prepares images, outside of the network."""
    scaled = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    return (scaled - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


def network() -> nn.Module:
    """The network of ``FACTORY``, with random weights."""
    scope: dict[str, object] = {}
    exec(FACTORY, scope)
    made: nn.Module = scope["make"]()  # type: ignore[operator]
    return made


def trained(steps: int = 150, prepare: Callable[[NDArray[np.uint8]], torch.Tensor] = normalised) -> nn.Module:
    """The dense network, trained on images that ``prepare`` makes its input."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = network()
        optimiser = torch.optim.Adam(module.parameters(), lr=0.01)
        for step in range(steps):
            images, labels = pictures(64, 1000 + step)
            optimiser.zero_grad()
            nn.functional.cross_entropy(module(prepare(images)), torch.from_numpy(labels)).backward()
            optimiser.step()
    return module.eval()


def pruned(module: nn.Module, share: float) -> nn.Module:
    """The same network with this share of each convolution's smallest weights at zero."""
    made = network()
    made.load_state_dict(module.state_dict())
    with torch.no_grad():
        for layer in made:  # type: ignore[attr-defined]
            if isinstance(layer, nn.Conv2d):
                layer.weight[layer.weight.abs() < layer.weight.abs().flatten().quantile(share)] = 0
    return made.eval()


def accuracy(module: nn.Module, pixels: Pictures) -> float:
    """The share of these pictures that the network names rightly."""
    with torch.inference_mode():
        return float((module(normalised(pixels[0])).argmax(1).numpy() == pixels[1]).mean())


def answers(module: nn.Module, pixels: Pictures) -> NDArray[np.float32]:
    """The probabilities of each class."""
    with torch.inference_mode():
        return module(normalised(pixels[0])).softmax(1).numpy()  # type: ignore[no-any-return]


def save_onnx(module: nn.Module, path: Path, *, size: int = SIDE) -> None:
    """Exported as torch's tutorial does, with a free batch."""
    example = torch.zeros(2, 3, size, size)
    torch.onnx.export(
        module, (example,), str(path), dynamo=False, input_names=["input"], output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
    )  # fmt: skip


class Prepared(nn.Module):
    """The network with its normalisation inside, as a careful exporter writes it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``(N, 4)``."""
        return self.network((images - self.mean) / self.std)  # type: ignore[operator, no-any-return]


def image_folder(folder: Path, pixels: Pictures, classes: tuple[str, ...] = CLASSES) -> Path:
    """One folder of PNG files for each class."""
    for number, (image, label) in enumerate(zip(*pixels, strict=True)):
        place = folder / classes[label]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{number:04}.png")
    return folder


def csv_table(folder: Path, pixels: Pictures) -> Path:
    """PNG files and a table of them, with a column for slices."""
    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("image", "label", "camera"))
        for number, (image, label) in enumerate(zip(*pixels, strict=True)):
            Image.fromarray(image).save(folder / "images" / f"{number:04}.png")
            writer.writerow((f"images/{number:04}.png", CLASSES[label], "ab"[number // 4 % 2]))
    return folder


def parquet_table(path: Path, pixels: Pictures) -> None:
    """One file with the PNG bytes of each image and its label, as ``datasets.Dataset.to_parquet`` writes it."""
    rows = []
    for number, image in enumerate(pixels[0]):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        rows.append({"bytes": stream.getvalue(), "path": f"{number:04}.png"})
    table = pyarrow.table({"image": rows, "label": [CLASSES[label] for label in pixels[1]]})
    pyarrow.parquet.write_table(table, path)


CELL, CELLS = 8, 4


class CellDetector(nn.Module):
    """Finds red and blue cells of a 4 x 4 grid: boxes in shares of the image, then a confidence for each class."""

    def __init__(self, blind: float = 0.0) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, 2, CELL, stride=CELL)
        with torch.no_grad():
            self.see.weight.zero_()
            self.see.weight[0, 2], self.see.weight[1, 0] = 12 / CELL**2, 12 / CELL**2
            self.see.bias.copy_(torch.tensor([-6.0, -6.0 - blind]))
        places = [(column, row) for row in range(CELLS) for column in range(CELLS)]
        boxes = [(x / CELLS, y / CELLS, (x + 1) / CELLS, (y + 1) / CELLS) for x, y in places]
        self.register_buffer("boxes", torch.tensor(boxes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``(N, 16, 6)``."""
        sure = self.see(images).sigmoid().flatten(2).transpose(1, 2)
        return torch.cat((self.boxes.expand(images.shape[0], -1, -1), sure), dim=2)


class PixelSegmenter(nn.Module):
    """One logit for each pixel: more red than blue."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, 1, 1)
        with torch.no_grad():
            self.see.weight.copy_(torch.tensor([8.0, 0.0, -8.0]).view(1, 3, 1, 1))
            self.see.bias.fill_(-2 - shift)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """``(N, 1, H, W)``."""
        return self.see(images)


def cells(images: int, seed: int) -> tuple[NDArray[np.uint8], list[list[tuple[int, int, int]]]]:
    """Pictures of 32 x 32 with coloured cells, and of each the (class, column, row) of its cells."""
    chance = np.random.default_rng(seed)
    found = chance.integers(0, 60, (images, 32, 32, 3)).astype(np.uint8)
    objects: list[list[tuple[int, int, int]]] = []
    for picture in found:
        places = chance.choice(CELLS**2, 3, replace=False)
        objects.append([(int(place) % 2, int(place) % CELLS, int(place) // CELLS) for place in places])
        for kind, column, row in objects[-1]:
            square = picture[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
            square[..., 0 if kind else 2] = chance.integers(150, 255)
    return found, objects


def mean_f1(network: nn.Module, pixels: NDArray[np.uint8], objects: list[list[tuple[int, int, int]]]) -> float:
    """The mean over the images of a detector's F1 at its operating point; boxes are cells, so they match or do not."""
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        sure = network(scaled)[..., 4:].numpy()
    found = []
    for answers, inside in zip(sure, objects, strict=True):
        kinds = answers.argmax(1)
        said = {(int(kinds[place]), place) for place in range(CELLS**2) if answers[place].max() >= 0.5}
        true = {(kind, row * CELLS + column) for kind, column, row in inside}
        found.append(2 * len(said & true) / (len(said) + len(true)))
    return float(np.mean(found))


def mean_iou(network: nn.Module, pixels: NDArray[np.uint8], objects: list[list[tuple[int, int, int]]]) -> float:
    """The mean over the images of the mean IoU of background and foreground, of those that are there."""
    scaled = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        said = network(scaled)[:, 0].numpy() > 0
    found = []
    for answer, inside in zip(said, objects, strict=True):
        true = np.zeros((32, 32), bool)
        for kind, column, row in inside:
            true[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] |= bool(kind)
        pairs = [(answer, true), (~answer, ~true)]
        found.append(np.mean([(a & b).sum() / (a | b).sum() for a, b in pairs if (a | b).any()]))
    return float(np.mean(found))


def coco(folder: Path, images: int, seed: int) -> Path:
    """PNG files and COCO annotations."""
    (folder / "images").mkdir(parents=True)
    pixels, objects = cells(images, seed)
    boxes = []
    for number, (picture, inside) in enumerate(zip(pixels, objects, strict=True)):
        Image.fromarray(picture).save(folder / "images" / f"{number:04}.png")
        boxes += [
            {"image_id": number, "category_id": kind + 1, "bbox": [x * CELL, y * CELL, CELL, CELL], "iscrowd": 0,
             "area": CELL**2} for kind, x, y in inside
        ]  # fmt: skip
    written = {
        "images": [{"id": n, "file_name": f"{n:04}.png", "width": 32, "height": 32} for n in range(images)],
        "categories": [{"id": 1, "name": "blue"}, {"id": 2, "name": "red"}],
        "annotations": [{"id": number, **box} for number, box in enumerate(boxes, 1)],
    }
    (folder / "annotations.json").write_text(json.dumps(written))
    return folder


def yolo(folder: Path, images: int, seed: int) -> Path:
    """PNG files, a text file of boxes for each, and ``data.yaml``."""
    for name in ("images", "labels"):
        (folder / name / "val").mkdir(parents=True)
    for number, (picture, inside) in enumerate(zip(*cells(images, seed), strict=True)):
        Image.fromarray(picture).save(folder / "images" / "val" / f"{number:04}.png")
        side = 1 / CELLS
        lines = [f"{kind} {(x + 0.5) * side} {(y + 0.5) * side} {side} {side}" for kind, x, y in inside]
        (folder / "labels" / "val" / f"{number:04}.txt").write_text("\n".join(lines) + "\n")
    (folder / "data.yaml").write_text("path: .\nval: images/val\nnames: [blue, red]\n")
    return folder


def masks(folder: Path, images: int, seed: int) -> Path:
    """PNG files and a mask of each with the same name: 255 where a red cell is."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number, (picture, inside) in enumerate(zip(*cells(images, seed), strict=True)):
        mask = np.zeros((32, 32), np.uint8)
        for kind, column, row in inside:
            mask[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = 255 * kind
        Image.fromarray(picture).save(folder / "images" / f"{number:04}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{number:04}.png")
    return folder
