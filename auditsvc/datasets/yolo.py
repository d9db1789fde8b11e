"""YOLO: a YAML file with class names and folders of images, and a text file of boxes next to each image's folder.

Each line of a text file is a class number and a box: its centre, width and height as fractions of the image.  A line
with more numbers is a polygon, of which the surrounding box is taken.  An image without a text file has no objects.

Reference: Ultralytics, "Object Detection Datasets Overview", https://docs.ultralytics.com/datasets/detect/.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from auditsvc.datasets.description import Description, UniqueKeys
from auditsvc.datasets.image_dataset import Content, ContentReader
from auditsvc.datasets.images import SUFFIXES, counted
from auditsvc.datasets.readers import Recognition, evaluation_split, name_from
from auditsvc.datasets.table import Row, number_of, raise_faults
from auditsvc.datasets.targets import Annotations, Box
from auditsvc.errors import InvalidDataset

PARTS = ("test", "val", "train")
TOLERANCE = 1e-3
"""How far a box may exceed its image by rounding, as a fraction of it."""


def is_yolo(path: Path) -> bool:
    """Whether a YAML file has class names and a part of images, and is no ``dataset.yaml`` of ours."""
    try:
        fields = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return False
    return isinstance(fields, dict) and "names" in fields and "task" not in fields and bool({*PARTS} & {*fields})


class YoloReader(ContentReader):
    """Reads the part ``test``, else ``val``, of a YOLO description."""

    format = "yolo"
    expects = "a YAML file with names and test, val or train"

    def recognises(self, path: Path) -> Recognition | None:
        """By the YAML file."""
        found = _described(path)
        return Recognition(found.name, declared=True) if found else None

    def content(self, path: Path) -> Content:
        """The images of one part with their boxes."""
        source = _described(path)
        if source is None:
            raise InvalidDataset(f"{path} has no YAML file with names and test, val or train")
        try:
            fields = yaml.load(source.read_text("utf-8"), Loader=UniqueKeys)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            raise InvalidDataset(f"{source} is not YAML: {error}") from error
        classes = _classes(source, fields)
        part = str(evaluation_split([name for name in PARTS if fields.get(name)]))
        root = source.parent / str(fields.get("path") or ".")
        images = sorted(_images(source, fields, root if root.is_dir() else source.parent, part))
        faults: list[str] = [] if images else [f"{part} of {source.name} names no images that are there"]
        boxes: dict[str, tuple[Box, ...]] = {}
        empty = [file.name for file in images if not _labels(file).is_file()]
        if images and len(empty) == len(images):
            faults.append(f"no image has a text file; the first would be {_labels(images[0])}")
        base = source.parent.resolve()
        outside = [file for file in images if not file.resolve().is_relative_to(base)]
        base = base if not outside else _common(images)
        names = [file.resolve().relative_to(base).as_posix() for file in images]
        for name, file in zip(names, images, strict=True):
            boxes[name] = tuple(_boxes(_labels(file), classes, faults))
        raise_faults(f"{source} can't be used", faults)
        notes = [f"the part {part} was read"]
        notes += (
            [f"{counted(empty, len(images))} have no text file and count as images without objects"] if empty else []
        )
        description = Description(
            name=name_from(path if path.is_dir() else path.parent), task="detection", image="image", source=str(source),
            annotations=source.name, classes=classes, licence=str(fields.get("license") or "not stated"),
        )  # fmt: skip
        rows = tuple(Row(number, {"image": name}) for number, name in enumerate(names, 1))
        annotations = Annotations(source.name, (), boxes)
        return Content(base, description, rows, annotations, left_out=_unused_labels(images), notes=tuple(notes))


def _described(path: Path) -> Path | None:
    files = [path] if path.is_file() else [path / name for name in ("data.yaml", "dataset.yaml", "data.yml")]
    return next((file for file in files if file.suffix in (".yaml", ".yml") and file.is_file() and is_yolo(file)), None)


def _classes(source: Path, fields: dict[str, Any]) -> tuple[str, ...]:
    names = fields["names"]
    if isinstance(names, dict):
        if sorted(names) != list(range(len(names))):
            raise InvalidDataset(f"{source}: names must have the numbers 0 to {len(names) - 1}, each once")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InvalidDataset(f"{source}: names must be a list, or a mapping of numbers to names")
    count = fields.get("nc", len(names))
    if count != len(names):
        raise InvalidDataset(f"{source}: nc is {count}, and there are {len(names)} names")
    return tuple(str(name) for name in names)


def _images(source: Path, fields: dict[str, Any], root: Path, part: str) -> Iterator[Path]:
    """The images of a part: folders, or text files that list images."""
    given = fields[part]
    for one in given if isinstance(given, list) else [given]:
        places = [root / str(one), source.parent / str(one), source.parent / str(one).removeprefix("../")]
        place = next((path for path in places if path.exists()), places[0])
        if place.is_dir():
            yield from (file for file in place.rglob("*") if file.suffix.lower() in SUFFIXES)
        elif place.is_file():
            lines = (line.strip() for line in place.read_text("utf-8").splitlines())
            yield from (place.parent / line for line in lines if line)


def _common(images: list[Path]) -> Path:
    """The folder that all images are in."""
    shared = images[0].resolve().parent
    while not all(file.resolve().is_relative_to(shared) for file in images):
        shared = shared.parent
    return shared


def _labels(image: Path) -> Path:
    """``labels/a.txt`` of ``images/a.png``; without a folder ``images``, next to it."""
    parts = list(image.with_suffix(".txt").parts)
    places = [place for place, part in enumerate(parts[:-1]) if part == "images"]
    if places:
        parts[places[-1]] = "labels"
    return Path(*parts)


def _unused_labels(images: list[Path]) -> dict[str, list[str]]:
    """Text files of boxes whose image is not there."""
    used = {_labels(file) for file in images}
    there = (file for folder in sorted({file.parent for file in used}) for file in sorted(folder.glob("*.txt")))
    return {"is a text file without an image": [file.name for file in there
                                                if file not in used and file.name != "classes.txt"]}  # fmt: skip


def _boxes(path: Path, classes: tuple[str, ...], faults: list[str]) -> Iterator[Box]:
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields:
            continue
        try:
            yield _box(fields, classes)
        except ValueError as error:
            faults.append(f"{path.name}, line {number}: {error}")


def _box(fields: list[str], classes: tuple[str, ...]) -> Box:
    values = [number_of(field) for field in fields[1:]]
    numbers = [value for value in values if value is not None]
    if len(numbers) < len(values) or not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
        raise ValueError("expected a class and four numbers, or the points of a polygon")
    if not fields[0].isdecimal() or int(fields[0]) >= len(classes):
        raise ValueError(f"the class {fields[0]!r} is not one of 0 to {len(classes) - 1}")
    if len(numbers) == 4:
        across, down, width, height = numbers
        corners = [across - width / 2, down - height / 2, across + width / 2, down + height / 2]
    else:
        corners = [min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])]
    if not (corners[0] < corners[2] and corners[1] < corners[3]):
        raise ValueError("the box has no area; remove it")
    if min(corners) < -TOLERANCE or max(corners) > 1 + TOLERANCE:
        raise ValueError("the box is outside its image; the numbers must be fractions of its width and height")
    left, top, right, low = (min(max(value, 0.0), 1.0) for value in corners)
    return Box(classes[int(fields[0])], (left, top, right, low))
