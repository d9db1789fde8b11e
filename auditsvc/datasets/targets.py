"""Targets (ground truth) of the native format: a class, a text, a mask or boxes for each image."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from auditsvc.datasets.coco import Annotations, Box
from auditsvc.datasets.description import Description
from auditsvc.datasets.images import DECODED_CACHE_BYTES, UNREADABLE
from auditsvc.datasets.table import Row, target_faults
from auditsvc.errors import InvalidDataset
from auditsvc.records import canonical_json
from auditsvc.tasks.boxes import CROWD, PADDING
from auditsvc.tasks.segmentation import IGNORED


class Targets(Protocol):
    """Targets by number."""

    @property
    def contents(self) -> tuple[str, ...]:
        """For each image what its target is, in words or as a digest: part of the data set's name."""
        ...

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """The targets of these images, as ``auditsvc.tasks`` takes them."""
        ...


class TensorTargets:
    """Targets in memory: classes ``(N,)``, texts ``(N, L)``, boxes ``(N, M, 5 or 6)``."""

    def __init__(self, values: Tensor, contents: tuple[str, ...]) -> None:
        self._values, self.contents = values, contents

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """The targets of these images."""
        return self._values[torch.from_numpy(numbers)]


class MaskFiles:
    """One file for each image with a class number for each pixel; ``foreground`` makes all but 0 the second class."""

    def __init__(self, paths: Sequence[Path], size: tuple[int, int], description: Description) -> None:
        self._paths, self._size, self._description = paths, size, description
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self.contents = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """``(N, H, W)`` uint8."""
        return torch.from_numpy(np.stack([self._mask(int(number)) for number in numbers]))

    def _mask(self, number: int) -> NDArray[np.uint8]:
        cached = self._cache.get(number)
        if cached is not None:
            return cached
        try:
            mask = read_mask(self._paths[number], self._size, self._description)
        except (*UNREADABLE, TypeError) as error:
            raise InvalidDataset(f"the mask {self._paths[number]} can't be read: {error}") from error
        if (len(self._cache) + 1) * mask.nbytes <= DECODED_CACHE_BYTES:
            self._cache[number] = mask
        return mask


def read_mask(path: Path, size: tuple[int, int], description: Description) -> NDArray[np.uint8]:
    """A mask, scaled to ``size`` (height, width) where it has another, each pixel from its nearest."""
    with Image.open(path) as image:
        numbers = np.asarray(image)
    if numbers.ndim != 2:
        raise ValueError(f"{numbers.shape[2]} channels; a mask has one number for each pixel")
    if numbers.shape != size:
        rows = (np.arange(size[0]) * numbers.shape[0] / size[0]).astype(int)
        columns = (np.arange(size[1]) * numbers.shape[1] / size[1]).astype(int)
        numbers = numbers[rows[:, None], columns]
    return (numbers > 0).astype(np.uint8) if description.foreground else np.ascontiguousarray(numbers, np.uint8)


def build_targets(
    folder: Path,
    rows: tuple[Row, ...],
    description: Description,
    annotations: Annotations | None,
    size: tuple[int, int],
    faults: list[str],
) -> Targets:
    """The targets of these rows; what is wrong with them is added to ``faults``."""
    if annotations is not None:
        return _boxes([annotations.boxes.get(row[description.image], ()) for row in rows], description, faults)
    column = str(description.target)
    if description.target_kind == "mask":
        return _masks(folder, [row[column] for row in rows], size, description, faults)
    texts = tuple(row[column] for row in rows)
    if description.target_kind == "text":
        return _texts(texts, description, faults)
    faults += target_faults(rows, description)
    places = {name: number for number, name in enumerate(description.classes)}
    return TensorTargets(torch.tensor([places.get(text, 0) for text in texts], dtype=torch.int64), texts)


def _texts(texts: tuple[str, ...], description: Description, faults: list[str]) -> Targets:
    strange = sorted({letter for text in texts for letter in text} - set(description.classes))
    if strange:
        faults.append(f"{description.target} has characters that are not among the classes: {' '.join(strange[:50])}")
    longest = max(max(map(len, texts)), 1)
    places = {name: number for number, name in enumerate(description.classes)}
    padded = [[places.get(letter, 0) for letter in text] + [PADDING] * (longest - len(text)) for text in texts]
    return TensorTargets(torch.tensor(padded, dtype=torch.int64), texts)


def _boxes(found: Sequence[Sequence[Box]], description: Description, faults: list[str]) -> Targets:
    places = {name: number for number, name in enumerate(description.classes)}
    strange = sorted({box.category for boxes in found for box in boxes} - set(places))
    if strange:
        faults.append(f"categories that are not among the classes: {', '.join(strange[:50])}")
    width = 6 if description.target_kind == "tracks" else 5
    values = torch.full((len(found), max((len(boxes) for boxes in found), default=0), 6), float(PADDING))
    for number, boxes in enumerate(found):
        for place, box in enumerate(boxes):
            kind = CROWD if box.crowd else places.get(box.category, PADDING)
            values[number, place] = torch.tensor((kind, *box.corners, box.track))
    contents = tuple(_boxes_digest(boxes, width) for boxes in found)
    return TensorTargets(values[..., :width].contiguous(), contents)


def _boxes_digest(boxes: Sequence[Box], width: int) -> str:
    rows = [[box.category, *box.corners, box.crowd, *([box.track] if width == 6 else [])] for box in boxes]
    return hashlib.sha256(canonical_json(rows)).hexdigest()


def _masks(
    folder: Path, names: Sequence[str], size: tuple[int, int], description: Description, faults: list[str]
) -> Targets:
    """Opens every mask once, so that a wrong class number is found before anything is measured."""
    bad: list[str] = []
    for name in names:
        if not name or ".." in Path(name).parts or Path(name).is_absolute():
            bad.append(f"mask {name or '(none)'} is outside the folder")
            continue
        try:
            with Image.open(folder / name) as image:
                bad += _faults_of_mask(name, image, description)
        except FileNotFoundError:
            bad.append(f"mask {name} does not exist")
        except UNREADABLE as error:
            bad.append(f"mask {name} can't be read: {error}")
    faults += bad
    return MaskFiles([] if bad else [folder / name for name in names], size, description)


def _faults_of_mask(name: str, image: Image.Image, description: Description) -> list[str]:
    numbers = np.asarray(image)
    if numbers.ndim != 2:
        return [f"mask {name} has {numbers.shape[2]} channels, not one number for each pixel"]
    if description.foreground:
        return []
    strange = sorted({*np.unique(numbers).tolist()} - {*range(len(description.classes)), IGNORED})
    if strange:
        most = len(description.classes) - 1
        return [f"mask {name} has the numbers {strange[:5]}; classes are 0 to {most}, and {IGNORED} does not count"]
    return [f"mask {name} ignores every pixel"] if bool((numbers == IGNORED).all()) else []


def target_use(description: Description) -> Mapping[str, str]:
    """What the target's column is used for; none where targets are annotations."""
    return {} if description.target is None else {description.target: "the target"}
