"""The roads of the guide, as written there: two commands, one file to read, and the right numbers.

The accuracy of every road is computed by ``small`` too, without auditsvc.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.roads import named, small
from tests.roads.conftest import Person, run

pytestmark = pytest.mark.slow

GUIDE = Path(__file__).parents[2] / "auditsvc" / "guide" / "your-own-model.md"
Networks = tuple[nn.Module, nn.Module]
Scores = tuple[float, float]


def roads_of_the_guide() -> dict[str, list[str]]:
    """The commands of each section that has some, by its title."""
    found: dict[str, list[str]] = {}
    for section in GUIDE.read_text().split("\n## ")[1:]:
        commands = re.findall(r"^ {4}auditsvc (.*)$", section, re.MULTILINE)
        if commands:
            found[section.splitlines()[0]] = commands
    return found


ROADS = roads_of_the_guide()


def accuracies(networks: Networks, pictures: small.Pictures) -> Scores:
    return small.accuracy(networks[0], pictures), small.accuracy(networks[1], pictures)


def onnx_and_folders(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    for network, name in zip(networks, ("dense.onnx", "small.onnx"), strict=True):
        small.save_onnx(network, folder / name)
    small.image_folder(folder / "photos", pictures)
    return accuracies(networks, pictures)


def state_dicts_and_csv(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    for network, name in zip(networks, ("dense.pt", "small.pt"), strict=True):
        torch.save(network.state_dict(), folder / name)
    (folder / "shapes.py").write_text(small.FACTORY)
    small.csv_table(folder / "table", pictures)
    return accuracies(networks, pictures)


def parquet(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    for network, name in zip(networks, ("dense.onnx", "small.onnx"), strict=True):
        small.save_onnx(small.Prepared(network).eval(), folder / name)
    small.parquet_table(folder / "test.parquet", pictures)
    return accuracies(networks, pictures)


def _detectors(folder: Path) -> Scores:
    networks = (small.CellDetector().eval(), small.CellDetector(blind=3).eval())
    for network, name in zip(networks, ("detector.onnx", "small-detector.onnx"), strict=True):
        small.save_onnx(network, folder / name, size=32)
    parent, candidate = (small.mean_f1(network, *small.cells(40, 3)) for network in networks)
    return parent, candidate


def coco(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    small.coco(folder / "coco", 40, 3)
    return _detectors(folder)


def yolo(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    small.yolo(folder / "yolo", 40, 3)
    return _detectors(folder)


def masks(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    small.masks(folder / "masked", 40, 3)
    made = (small.PixelSegmenter().eval(), small.PixelSegmenter(shift=1.0).eval())
    for network, name in zip(made, ("segmenter.onnx", "small-segmenter.onnx"), strict=True):
        small.save_onnx(network, folder / name, size=32)
    parent, candidate = (small.mean_iou(network, *small.cells(40, 3)) for network in made)
    return parent, candidate


def timm(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    return named.saved(folder, named.of_timm, pictures)


def torchvision(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    return named.saved(folder, named.of_torchvision, pictures)


def hugging_face(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    return named.saved(folder, named.of_transformers, pictures)


def predictions(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    answers = [small.answers(one, pictures) for one in networks]
    with (folder / "predictions.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "truth", *(f"{who}_{name}" for who in ("parent", "candidate")
                                             for name in small.CLASSES)])  # fmt: skip
        for number, label in enumerate(pictures[1]):
            scores = np.concatenate([one[number] for one in answers])
            writer.writerow([f"{number}.png", small.CLASSES[label], *map(float, scores)])
    return accuracies(networks, pictures)


def pruned_here(folder: Path, networks: Networks, pictures: small.Pictures) -> Scores:
    torch.save(networks[0].state_dict(), folder / "dense.pt")
    (folder / "shapes.py").write_text(small.FACTORY)
    small.image_folder(folder / "photos", pictures)
    small.image_folder(folder / "more-photos", small.pictures(80, 6))
    return small.accuracy(networks[0], pictures), float("nan")


MAKERS: dict[str, Callable[[Path, Networks, small.Pictures], Scores]] = {
    "ONNX files, photos in a folder for each class": onnx_and_folders,
    "State dicts of your own network, a CSV table": state_dicts_and_csv,
    "A Parquet table with the images inside, as Hugging Face writes it": parquet,
    "A detector, COCO annotations": coco,
    "A detector, YOLO labels": yolo,
    "A segmenter, masks as PNG": masks,
    "A network of timm": timm,
    "A network of torchvision": torchvision,
    "A folder of Hugging Face's save_pretrained": hugging_face,
    "Only predictions, without the models": predictions,
    "Only a dense model: prune it here": pruned_here,
}


def test_every_road_of_the_guide_is_walked() -> None:
    """The commands of README are those of the first road."""
    assert set(MAKERS) == set(ROADS)
    readme = (GUIDE.parents[2] / "README.md").read_text().split("## Audit your own model")[1]
    first = re.findall(r"^ {4}auditsvc (.*)$", readme.partition("\n## ")[0], re.MULTILINE)
    assert [f"{first[0]} --as ann", first[1]] == next(iter(ROADS.values()))


@pytest.mark.parametrize("title", MAKERS)
def test_a_road_is_two_commands_one_file_and_the_right_numbers(
    title: str, person: Person, networks: Networks, pictures: small.Pictures
) -> None:
    parent, candidate = MAKERS[title](person.folder, networks, pictures)
    before = {path.name for path in person.folder.iterdir()}
    *first, decision = (person.call(*shlex.split(command)) for command in ROADS[title])
    written = {path.name for path in person.folder.iterdir()} - before - {"__pycache__"}
    assert written == ({"audit.yaml"} if first else set()) and person.commands <= 2
    scores = [parent] if np.isnan(candidate) else [parent, candidate]
    for init in first:
        assert [one["value"] for one in init["right"]] == pytest.approx(scores, abs=1e-6)
    assert decision["clean"]["parent"] == pytest.approx(parent, abs=1e-6)
    if not np.isnan(candidate):
        assert decision["clean"]["score"] == pytest.approx(candidate, abs=1e-6)
    assert decision["outcome"] in ("approved", "rejected", "inconclusive")
    assert Path(decision["report"]).is_file()


def test_the_audit_says_it_in_about_ten_lines(person: Person, networks: Networks, pictures: small.Pictures) -> None:
    parent, candidate = onnx_and_folders(person.folder, networks, pictures)
    status, text, _ = run(
        person.folder, "init", *shlex.split(ROADS["ONNX files, photos in a folder for each class"][0])[1:]
    )
    assert status == 0 and f"parent {100 * parent:.1f} %" in text and "next: auditsvc audit" in text
    status, text, messages = run(person.folder, "audit")
    lines = text.splitlines()
    assert lines, messages
    assert f"{100 * candidate:.1f} %" in lines[1] and len(lines) <= 12
    assert (status, lines[0].partition(":")[0]) in {(0, "approved"), (1, "rejected"), (3, "inconclusive")}
