"""Targets (ground truth): a class, a text, a mask or boxes for each image."""

from __future__ import annotations

import copy
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from auditsvc.datasets.description import Description
from auditsvc.datasets.images import DECODED_CACHE_BYTES, FORMATS, TURNED, UNREADABLE, Header
from auditsvc.datasets.table import Row, nearest, target_faults
from auditsvc.errors import InvalidDataset
from auditsvc.models.preprocessing import letterbox
from auditsvc.records import canonical_json
from auditsvc.tasks.boxes import CROWD, PADDING
from auditsvc.tasks.segmentation import IGNORED

Corners = tuple[float, float, float, float]
"""``x0, y0, x1, y1`` as fractions of the image's width and height."""


@dataclass(frozen=True)
class Box:
    """One object: category, corners, whether it is a crowd, number in its sequence."""

    category: str
    corners: Corners
    crowd: bool = False
    track: int = 0


@dataclass(frozen=True)
class Annotations:
    """All images, each with its fields as text, and by its file its boxes, its declared height and width, and its id;
    the categories by their ids."""

    source: str
    images: tuple[dict[str, str], ...]
    boxes: Mapping[str, tuple[Box, ...]]
    sizes: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    ids: Mapping[str, int | str] = field(default_factory=dict)
    categories: Mapping[int | str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


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

    def in_frame(self, frame: tuple[int, int], shapes: Sequence[tuple[int, int]]) -> TensorTargets:
        """Boxes on images of these heights and widths as boxes on the padded frame, in which their images are."""
        values = self._values.clone()
        for boxes, shape in zip(values, shapes, strict=True):
            top, left, height, width = letterbox(shape, frame)
            corner, size = (values.new_tensor(pair * 2) for pair in ((left, top), (width, height)))
            boxes[:, 1:5] = (boxes[:, 1:5] * size + corner) / values.new_tensor(frame[::-1] * 2)
        return TensorTargets(values, self.contents)


class MaskFiles:
    """One file for each image with a class number for each pixel; ``foreground`` makes all but 0 the second class."""

    def __init__(
        self, paths: Sequence[Path], size: tuple[int, int], headers: Sequence[Header], description: Description
    ) -> None:
        self._paths, self._size, self._headers, self._description = paths, size, headers, description
        self._cache: dict[int, NDArray[np.uint8]] = {}
        self._padded = False
        self.contents = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths)

    def scaled(self, size: tuple[int, int], *, padded: bool) -> MaskFiles:
        """The same masks at another height and width; ``padded``: with their proportions, the rest does not count."""
        made = copy.copy(self)
        made._size, made._cache, made._padded = size, {}, padded
        return made

    def read(self, numbers: NDArray[np.int64]) -> Tensor:
        """``(N, H, W)`` uint8."""
        return torch.from_numpy(np.stack([self._mask(int(number)) for number in numbers]))

    def _mask(self, number: int) -> NDArray[np.uint8]:
        cached = self._cache.get(number)
        if cached is not None:
            return cached
        try:
            data = self._paths[number].read_bytes()
            if hashlib.sha256(data).hexdigest() != self.contents[number]:
                raise InvalidDataset(f"the mask {self._paths[number]} was changed after the data set was opened")
            numbers = upright_mask(io.BytesIO(data), self._headers[number] if self._headers else None)
        except UNREADABLE as error:
            raise InvalidDataset(f"the mask {self._paths[number]} can't be read: {error}") from error
        top, left, *inner = letterbox(numbers.shape, self._size) if self._padded else (0, 0, *self._size)
        scaled = nearest_pixels(numbers, (inner[0], inner[1]))
        mask = (scaled > 0).astype(np.uint8) if self._description.foreground else scaled.astype(np.uint8)
        if self._padded:
            around = ((top, self._size[0] - inner[0] - top), (left, self._size[1] - inner[1] - left))
            mask = np.pad(mask, around, constant_values=IGNORED)
        if (len(self._cache) + 1) * mask.nbytes <= DECODED_CACHE_BYTES:
            self._cache[number] = mask
        return mask


def nearest_pixels(numbers: NDArray[np.integer], size: tuple[int, int]) -> NDArray[np.integer]:
    """``(h, w)`` at another height and width: each pixel from the one at its centre, on the grid of a scaled image."""
    if numbers.shape == size:
        return numbers
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(size, numbers.shape, strict=True)
    )
    return np.ascontiguousarray(numbers[rows[:, None], columns])


def upright_mask(source: Path | BinaryIO, header: Header | None = None) -> NDArray[np.integer]:
    """The numbers of a mask ``(h, w)``; one with the shape of the image as it is stored is turned with its image.

    Raises:
        ValueError: several channels, or another shape than its image has.
        OSError, SyntaxError: no image.
    """
    with Image.open(source, formats=FORMATS) as image:
        turn = TURNED.get(image.getexif().get(0x0112, 1))
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"):
            raise ValueError(f"{len(image.getbands())} channels ({image.mode}), not one number for each pixel")
        numbers = np.asarray(image)
        numbers = numbers.astype(np.int64 if numbers.dtype.itemsize > 1 else np.uint8)
    if header and turn is None and numbers.shape == header.stored and header.stored != header.shape:
        turn = TURNED[header.orientation]
    numbers = numbers if turn is None else _turned(numbers, turn)
    if header and not _alike(numbers.shape, header.shape):
        raise ValueError(f"{numbers.shape} (height, width), its image is {header.shape}")
    return numbers


def _turned(numbers: NDArray[np.integer], turn: Image.Transpose) -> NDArray[np.integer]:
    return np.asarray(Image.fromarray(numbers.astype(np.int32)).transpose(turn))


def _alike(one: tuple[int, ...], other: tuple[int, int]) -> bool:
    """Whether two shapes have the same proportions, to a pixel."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def build_targets(
    folder: Path,
    rows: Sequence[Row],
    description: Description,
    annotations: Annotations | None,
    image: tuple[tuple[int, int], Sequence[Header]],
    faults: list[str],
) -> Targets:
    """The targets of these rows; what is wrong with them is added to ``faults``.

    ``image``: the height and width of the images, and the headers of their files.
    """
    if annotations is not None:
        return _boxes(annotations, [row[description.image] for row in rows], description, image[1], faults)
    column = str(description.target)
    if description.target_kind == "mask":
        return _masks(folder, [row[column] for row in rows], image, description, faults)
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


def _boxes(
    annotations: Annotations,
    names: Sequence[str],
    description: Description,
    headers: Sequence[Header],
    faults: list[str],
) -> Targets:
    places = {name: number for number, name in enumerate(description.classes)}
    found = [annotations.boxes.get(name, ()) for name in names]
    strange = sorted({box.category for boxes in found for box in boxes} - set(places))
    if strange:
        hints = "".join(nearest(name, places) for name in strange[:50])
        faults.append(f"categories that are not among the classes: {', '.join(strange[:50])}{hints}")
    for number, (name, header) in enumerate(zip(names, headers, strict=False)):
        found[number], fault = upright_boxes(annotations, name, header)
        faults += fault
    width = 6 if description.target_kind == "tracks" else 5
    values = torch.full((len(found), max((len(boxes) for boxes in found), default=0), 6), float(PADDING))
    for number, boxes in enumerate(found):
        for place, box in enumerate(boxes):
            kind = places.get(box.category, PADDING)
            values[number, place] = torch.tensor((CROWD - kind if box.crowd else kind, *box.corners, box.track))
    contents = tuple(_boxes_digest(boxes, width) for boxes in found)
    return TensorTargets(values[..., :width].contiguous(), contents)


def upright_boxes(annotations: Annotations, name: str, header: Header) -> tuple[tuple[Box, ...], list[str]]:
    """The boxes on the upright image, and what is wrong with the size that the annotations declare.

    Where that is the size of the image as it is stored, the boxes were drawn on it and are turned with it.
    """
    boxes, declared = annotations.boxes.get(name, ()), annotations.sizes.get(name)
    if declared is None or declared == header.shape:
        return boxes, []
    if declared == header.stored:
        turn = header.orientation
        return tuple(replace(box, corners=turned_corners(box.corners, turn)) for box in boxes), []
    sizes = [f"{width} x {height}" for height, width in (declared, header.shape)]
    return boxes, [f"image {name} is declared {sizes[0]}, the file is {sizes[1]} (width x height)"]


def turned_corners(corners: Corners, orientation: int) -> Corners:
    """The corners on the upright image of a box that was drawn on the stored one."""
    points = [(corners[0], corners[1]), (corners[2], corners[3])]
    if orientation >= 5:
        points = [(y, x) for x, y in points]
    right, down = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    turned = [(1 - x if right else x, 1 - y if down else y) for x, y in points]
    (left, top), (far, low) = (tuple(pick(values) for values in zip(*turned, strict=True)) for pick in (min, max))
    return left, top, far, low


def _boxes_digest(boxes: Sequence[Box], width: int) -> str:
    rows = [[box.category, *box.corners, box.crowd, *([box.track] if width == 6 else [])] for box in boxes]
    return hashlib.sha256(canonical_json(rows)).hexdigest()


def _masks(
    folder: Path,
    names: Sequence[str],
    image: tuple[tuple[int, int], Sequence[Header]],
    description: Description,
    faults: list[str],
) -> Targets:
    """Opens every mask once, so that a wrong class number is found before anything is measured."""
    bad: list[str] = []
    headers = image[1]
    for number, name in enumerate(names):
        if not name or ".." in Path(name).parts or Path(name).is_absolute():
            bad.append(f"mask {name or '(none)'} is outside the folder")
            continue
        try:
            numbers = upright_mask(folder / name, headers[number] if len(headers) == len(names) else None)
            bad += _faults_of_mask(name, numbers, description)
        except FileNotFoundError:
            bad.append(f"mask {name} does not exist")
        except UNREADABLE as error:
            bad.append(f"mask {name} can't be read: {error}")
    bad += [f"mask {name} is named by {times} rows" for name, times in Counter(names).items() if times > 1]
    faults += bad
    return MaskFiles([] if bad else [folder / name for name in names], image[0], headers, description)


def _faults_of_mask(name: str, numbers: NDArray[np.integer], description: Description) -> list[str]:
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
