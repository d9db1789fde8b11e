"""From an ONNX parent to a decision, for every task, by the command line.

The networks see colours through one convolution and are right by construction; the rest of their weights is small noise
that gives pruning and the watermark something to work on.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from auditsvc.cli import main

pytestmark = pytest.mark.slow

POLICY = """
policy: only-accuracy
version: 1
why: a test
task: any
alpha: 0.05
seed: 1
checks:
  accuracy: {version: 1}
rules:
  - rule: floor
    reading: accuracy/parent.clean
    at_least: 0.7
    why: The parents are right by construction.
  - rule: loss
    reading: accuracy/drop.clean
    at_most: 0.3
    why: A margin.
"""
"""The margins are those that 12 independent films can show; what is measured is compared exactly."""

COLOURS = np.array([[0, 0, 0], [230, 20, 20], [20, 230, 20], [20, 20, 230]], np.uint8)


class Colours(nn.Module):
    """How much red, green and blue there is in each square of ``step`` pixels; 24 more channels of noise."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.noise = nn.Conv2d(3, 24, 3, padding=1)
        self.see = nn.Conv2d(27, 3, step, step)
        with torch.no_grad():
            for layer in (self.noise, self.see):
                layer.weight.mul_(0.02)
                layer.bias.zero_()
            for colour in range(3):
                self.see.weight[colour, colour] += 1 / step**2
        # logits: 12 times (own colour less the others') less 4

    def forward(self, images: Tensor) -> Tensor:
        found = self.see(torch.cat((images, self.noise(images).relu()), dim=1))
        return 18 * found - 6 * found.sum(dim=1, keepdim=True) - 4


class Classifier(Colours):
    def __init__(self) -> None:
        super().__init__(32)

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flatten(1)[:, :2]


class Yolo(Colours):
    """``(N, 4 + 2, 16)``, with the batch size 1 written into the graph, as plain exports have it."""

    def __init__(self) -> None:
        super().__init__(8)
        rows, columns = torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij")
        places = torch.stack((columns.flatten(), rows.flatten())) * 8 + 4
        self.register_buffer("places", torch.cat((places, torch.full((2, 16), 8.0)))[None])

    def forward(self, images: Tensor) -> Tensor:
        sure = super().forward(images)[:, :2].reshape(1, 2, 16).sigmoid()
        return torch.cat((self.places, sure), dim=1)


class UNet(nn.Module):
    """Down, up by a transposed convolution, and joined with the image: background and foreground, 3 x 96 x 96."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.head = nn.Conv2d(3, 16, 3, 2, 1), nn.ConvTranspose2d(16, 8, 2, 2), nn.Conv2d(11, 2, 1)
        with torch.no_grad():
            self.head.weight.mul_(0.02)
            self.head.weight[1, :1] += 20
            self.head.bias.copy_(torch.tensor([0.0, -10.0]))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(torch.cat((images, self.up(self.down(images).relu())), dim=1))


class Reader(Colours):
    """``(N, 3 + 1, 5)``: a character for each colour, then the blank."""

    def __init__(self) -> None:
        super().__init__(8)

    def forward(self, images: Tensor) -> Tensor:
        found = super().forward(images)[:, :, 0]
        return torch.cat((found, torch.zeros_like(found[:, :1])), dim=1)


def squares(codes: np.ndarray, size: int, chance: np.random.Generator) -> np.ndarray:
    """Squares of these colours with some noise."""
    pixels = COLOURS[codes].repeat(size, 0).repeat(size, 1).astype(int)
    return (pixels + chance.integers(-20, 20, pixels.shape)).clip(0, 255).astype(np.uint8)


def described(folder: Path, rows: list[dict[str, object]], **fields: object) -> None:
    with (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    facts = {"name": folder.name, "source": "made in a test", "licence": "CC0-1.0", "image": "image"}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(facts | fields))


def classification(folder: Path, images: int, chance: np.random.Generator) -> None:
    rows = []
    for number in range(images):
        label = number % 2
        Image.fromarray(squares(np.array([[label + 1]]), 32, chance)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "label": ("red", "green")[label]})
    described(folder, rows, task="classification", target="label", classes=["red", "green"])


def segmentation(folder: Path, images: int, chance: np.random.Generator) -> None:
    rows = []
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for number in range(images):
        codes = chance.integers(0, 2, (6, 6))
        Image.fromarray(squares(codes, 16, chance)).save(folder / "images" / f"{number}.png")
        Image.fromarray(codes.repeat(16, 0).repeat(16, 1).astype(np.uint8)).save(folder / "masks" / f"{number}.png")
        rows.append({"image": f"images/{number}.png", "mask": f"masks/{number}.png"})
    described(folder, rows, task="segmentation", target="mask", classes=["none", "red"])


def detection(folder: Path, images: int, chance: np.random.Generator, films: int = 0) -> None:
    made: dict[str, list[dict[str, object]]] = {
        "images": [], "annotations": [], "categories": [{"id": 0, "name": "red"}, {"id": 1, "name": "green"}]
    }  # fmt: skip
    for number in range(images):
        codes = np.zeros((4, 4), int)
        for place in chance.choice(16, 5, replace=False):  # so many layouts that none comes twice
            codes[divmod(int(place), 4)] = label = int(chance.integers(1, 3))
            row, column = divmod(int(place), 4)
            made["annotations"].append({
                "id": len(made["annotations"]), "image_id": number, "category_id": label - 1, "iscrowd": 0, "area": 64,
                "bbox": [column * 8, row * 8, 8, 8], "track_id": int(place),
            })  # fmt: skip
        Image.fromarray(squares(codes, 8, chance)).save(folder / f"{number}.png")
        film = f"film-{number * films // images}" if films else ""
        made["images"].append({"id": number, "file_name": f"{number}.png", "width": 32, "height": 32, "film": film})
    (folder / "annotations.json").write_text(json.dumps(made))
    facts = {"name": folder.name, "source": "made in a test", "licence": "CC0-1.0", "classes": ["red", "green"]}
    facts |= {"task": "tracking", "cluster": "film"} if films else {"task": "detection"}
    more = {"annotations": "annotations.json", "image": "file_name"}
    (folder / "dataset.yaml").write_text(yaml.safe_dump(facts | more))


def tracking(folder: Path, images: int, chance: np.random.Generator) -> None:
    detection(folder, images, chance, films=images // 4)


def ocr(folder: Path, images: int, chance: np.random.Generator) -> None:
    rows = []
    for number in range(images):
        codes = np.array([*chance.permutation([1, 2, 3]), 0, 1])
        Image.fromarray(squares(codes[None], 8, chance)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "text": "".join("-abc"[code] for code in codes if code)})
    described(folder, rows, task="ocr", target="text", classes=["a", "b", "c"])


TASKS: dict[str, tuple[Callable[..., None], Callable[[], nn.Module], tuple[int, int]]] = {
    "classification": (classification, Classifier, (32, 32)),
    "segmentation": (segmentation, UNet, (96, 96)),
    "detection": (detection, Yolo, (32, 32)),
    "tracking": (tracking, Yolo, (32, 32)),
    "ocr": (ocr, Reader, (8, 40)),
}


def exported(network: nn.Module, size: tuple[int, int], path: Path, *, free: bool) -> None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        axes = {"dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}}} if free else {}
        names = {"input_names": ["x"], "output_names": ["y"]}
        torch.onnx.export(
            network.eval(), (torch.rand(1, 3, *size),), str(path), dynamo=False, opset_version=13, **names, **axes
        )


def run(*words: object, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["auditsvc", *map(str, words)])
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out + printed.err


@pytest.mark.parametrize("task", TASKS)
def test_an_onnx_parent_of_every_task_is_pruned_and_audited(task: str, tmp_path: Path, capsys) -> None:
    write, network, size = TASKS[task]
    for seed, name in enumerate(("audited", "calibration")):
        (tmp_path / name).mkdir()
        write(tmp_path / name, 48, np.random.default_rng(seed))
    (tmp_path / "policy.yaml").write_text(POLICY)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exported(network(), size, tmp_path / "parent.onnx", free=network is not Yolo)
    model = ("--model", task, "--as", "sue", "--store", tmp_path / "store", "--json")
    code, out = run(
        "prune", "--parent", tmp_path / "parent.onnx", "--calibration", tmp_path / "calibration", "--source", "a test",
        "--licence", "CC0-1.0", "--target", "sparsity=0.1", *model, capsys=capsys,
    )  # fmt: skip
    assert code == 0, out
    code, out = run(
        "audit", "--version", json.loads(out)["version"], "--data", tmp_path / "audited", "--policy",
        tmp_path / "policy.yaml", *model, capsys=capsys,
    )  # fmt: skip
    assert code == 0, out
    if task in ("detection", "tracking"):
        assert json.loads(out)["clean"] == {"parent": 1.0, "score": 1.0, "drop": 0.0}
    if task == "detection":  # the same pair of files as they are
        code, out = run(
            "audit", "--parent", tmp_path / "parent.onnx", "--candidate", tmp_path / "parent.onnx", "--data",
            tmp_path / "audited", "--policy", tmp_path / "policy.yaml", *model, capsys=capsys,
        )  # fmt: skip
        assert code == 0, out
