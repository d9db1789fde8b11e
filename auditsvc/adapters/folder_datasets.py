"""Data sets as folders: ``dataset.yaml``, ``metadata.csv``, and the images as files or in one ``images.npz``.

Everything is checked when the folder is opened, and every fault is reported at once.  The digest covers each
image and each row that is used, so the same content has the same name wherever it lies.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditsvc.errors import InvalidDataset, Unavailable
from auditsvc.measuring import Batch, Slices, column_from
from auditsvc.records import OVERALL, DatasetRef, Name, TaskName, Text, canonical_json, digest_of, faults_of

KEEP_DECODED = 256 * 2**20
"""Up to so many bytes of decoded images are kept in memory; a larger data set is read again for every pass."""

MAX_FAULTS = 20

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


class _Description(BaseModel):
    """``dataset.yaml``."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    task: TaskName
    image: str = "image"
    target: str
    classes: Annotated[tuple[str, ...], Field(min_length=2)]
    slices: tuple[str, ...] = ()
    where: dict[str, str] = {}
    source: Text
    licence: Text


@dataclass
class FolderDataset:
    """A data set folder that was checked; implements ``measuring.Dataset``."""

    ref: DatasetRef
    slices: Slices
    classes: tuple[str, ...]
    images: _Images
    names: tuple[str, ...]
    targets: NDArray[np.int64]

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """All images, or the chosen ones, in order, ``size`` at a time."""
        numbers = np.arange(self.ref.images) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            pixels = torch.from_numpy(self.images.read(part)).permute(0, 3, 1, 2).float().div_(255)
            yield Batch(pixels, torch.from_numpy(self.targets[part]), torch.from_numpy(part))

    def target_of(self, index: int) -> int:
        """The class number of one image."""
        return int(self.targets[index])

    def name_of(self, index: int) -> str:
        """The image's name in the metadata."""
        return self.names[index]

    def index_of(self, name: str) -> int:
        """The number of the image of this name."""
        return self.names.index(name)

    def thumbnail(self, index: int) -> bytes:
        """The image as PNG."""
        pixels = self.images.read(np.array([index]))[0]
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze() if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        return buffer.getvalue()


class _Images:
    """Where pixels come from: ``read`` gives ``(N, H, W, C)`` uint8."""

    digests: tuple[str, ...]

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        raise NotImplementedError


class _ImageFiles(_Images):
    """One file for each image; decoded images are kept while they are few."""

    def __init__(self, paths: list[Path], faults: list[str]) -> None:
        self._paths = paths
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._bytes = 0
        self.digests = tuple(self._digest(path, faults) for path in paths)
        self._shape = None if faults else self._decode(0).shape

    @staticmethod
    def _digest(path: Path, faults: list[str]) -> str:
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            faults.append(f"image {path.name}: {error.strerror}")
            return ""

    def _decode(self, number: int) -> NDArray[np.uint8]:
        path = self._paths[number]
        try:
            with Image.open(path) as image:
                pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise InvalidDataset(f"the image {path} can't be read: {error}") from error
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _pixels(self, number: int) -> NDArray[np.uint8]:
        kept = self._kept.get(number)
        if kept is not None:
            return kept
        pixels = self._decode(number)
        if pixels.shape != self._shape:
            raise InvalidDataset(
                f"{self._paths[number]} is {pixels.shape}, the first image is {self._shape}; scale them to one size"
            )
        if self._bytes + pixels.nbytes <= KEEP_DECODED:
            self._kept[number] = pixels
            self._bytes += pixels.nbytes
        return pixels

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        return np.stack([self._pixels(int(number)) for number in numbers])


class _ImageArray(_Images):
    """All images in one ``images.npz``, array ``images``: ``(N, H, W)`` or ``(N, H, W, C)`` uint8."""

    def __init__(self, path: Path, rows: NDArray[np.int64], faults: list[str]) -> None:
        try:
            with np.load(path, allow_pickle=False) as archive:
                pixels = archive["images"]
        except (OSError, ValueError, KeyError) as error:
            faults.append(f"{path.name}: {error}")
            pixels = np.zeros((len(rows), 1, 1), np.uint8)
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or len(pixels) <= (rows.max() if len(rows) else 0):
            faults.append(f"{path.name} holds {pixels.dtype} {pixels.shape}; wanted uint8, an image for every row")
            pixels = np.zeros((int(rows.max()) + 1, 1, 1), np.uint8)
        chosen = pixels[rows]
        self._pixels = chosen[..., None] if chosen.ndim == 3 else chosen
        self.digests = tuple(hashlib.sha256(image.tobytes()).hexdigest() for image in self._pixels)

    def read(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels: NDArray[np.uint8] = self._pixels[numbers]
        return pixels


class FolderDatasets:
    """Opens data set folders; implements ``ports.Datasets``."""

    def open(self, path: Path) -> FolderDataset:
        """Read and check a folder, or one of several descriptions (``*.yaml``) in it.

        Raises:
            InvalidDataset: with every fault of the description, the table and the images.
            Unavailable: the folder can't be read.
        """
        folder, description = _described(path)
        table = _rows(folder, description)
        faults: list[str] = []
        kept = np.array([number for number, row in enumerate(table) if _wanted(row, description.where)], np.int64)
        rows = [table[number] for number in kept]
        if not rows:
            faults.append(f"no row of metadata.csv has {description.where or 'any content'}")
        faults += _faults_of_rows(rows, description)
        _refuse(folder, faults)
        names, images = _images(folder, table, kept, description, faults)
        _refuse(folder, faults)
        places = {name: number for number, name in enumerate(description.classes)}
        return FolderDataset(
            ref=_reference(description, rows, images.digests),
            slices=Slices(
                len(rows), tuple(column_from(name, [row[name] for row in rows]) for name in description.slices)
            ),
            classes=description.classes,
            images=images,
            names=names,
            targets=np.array([places[row[description.target]] for row in rows], np.int64),
        )


def _described(path: Path) -> tuple[Path, _Description]:
    """The folder and its description."""
    source = path if path.suffix in {".yaml", ".yml"} else path / "dataset.yaml"
    try:
        return source.parent, _Description.model_validate(yaml.safe_load(source.read_text("utf-8")))
    except FileNotFoundError as error:
        raise InvalidDataset(f"{path} is not a data set: there is no {source}") from error
    except OSError as error:
        raise Unavailable(f"{source} can't be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidDataset(f"{source} is not YAML: {error}") from error
    except ValidationError as error:
        raise InvalidDataset(f"{source} can't be used", faults_of(error)) from error


def _rows(folder: Path, description: _Description) -> list[dict[str, str]]:
    try:
        with (folder / "metadata.csv").open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream, restkey="(extra)", restval=None)
            rows: list[dict[str, Any]] = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidDataset(f"{folder / 'metadata.csv'} can't be read: {error}") from error
    columns = set(reader.fieldnames or ())
    wanted = {description.target, *description.slices, *description.where}
    faults = [f"metadata.csv has no column {name!r}; it has {', '.join(sorted(columns))}" for name in wanted - columns]
    faults += [f"row {number}: {'more' if '(extra)' in row else 'fewer'} fields than the header"
               for number, row in enumerate(rows, 2) if "(extra)" in row or None in row.values()]  # fmt: skip
    if OVERALL in description.slices:
        faults.append(f"a slice column can't be named {OVERALL!r}: that is the slice of all images")
    _refuse(folder, faults)
    return rows


def _wanted(row: dict[str, str], where: dict[str, str]) -> bool:
    return all(row[column] == value for column, value in where.items())


def _faults_of_rows(rows: list[dict[str, str]], description: _Description) -> list[str]:
    known = ", ".join(description.classes)
    return [
        f"row {number}: {description.target} is {row[description.target]!r}, not one of {known}"
        for number, row in enumerate(rows, 2)
        if row[description.target] not in description.classes
    ]


def _images(
    folder: Path, table: list[dict[str, str]], kept: NDArray[np.int64], description: _Description, faults: list[str]
) -> tuple[tuple[str, ...], _Images]:
    """The names of the kept images and where their pixels come from; every image of the folder needs a row."""
    if (folder / "images.npz").is_file():
        return tuple(f"#{number}" for number in kept), _ImageArray(folder / "images.npz", kept, faults)
    every = tuple(row.get(description.image) or "" for row in table)
    faults += _faults_of_names(every)
    if not faults:
        faults += [
            f"image {path.name} has no row in metadata.csv" for path in _spare([folder / name for name in every])
        ]
    names = tuple(every[number] for number in kept)
    return names, _ImageFiles([] if faults else [folder / name for name in names], faults)


def _faults_of_names(names: tuple[str, ...]) -> list[str]:
    faults = [f"row {number}: no image is named" for number, name in enumerate(names, 2) if not name]
    counted = Counter(name for name in names if name)
    faults += [f"image {name} is named by {times} rows" for name, times in counted.items() if times > 1]
    outside = [name for name in names if ".." in Path(name).parts or Path(name).is_absolute()]
    return faults + [f"image {name} lies outside the folder" for name in outside]


def _spare(paths: list[Path]) -> list[Path]:
    """Image files beside the named ones that no row names."""
    named = {path.resolve() for path in paths}
    beside = [path for parent in sorted({path.parent for path in paths}) for path in sorted(parent.glob("*"))]
    return [path for path in beside if path.suffix.lower() in _SUFFIXES and path.resolve() not in named]


def _reference(description: _Description, rows: list[dict[str, str]], digests: tuple[str, ...]) -> DatasetRef:
    used = (description.target, *description.slices)
    lines = [[digest, *(row[column] for column in used)] for digest, row in zip(digests, rows, strict=True)]
    content = {"task": description.task, "classes": description.classes, "columns": used, "rows": lines}
    return DatasetRef(
        name=description.name,
        digest=digest_of(canonical_json(content)),
        task=description.task,
        images=len(rows),
        slices=description.slices,
        source=description.source,
        licence=description.licence,
    )


def _refuse(folder: Path, faults: list[str]) -> None:
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise InvalidDataset(f"the data set {folder} can't be used", [*faults[:MAX_FAULTS], *more])
