"""The native format: a folder with ``dataset.yaml``, ``metadata.csv`` (or ``.parquet``), and images or ``images.npz``.

Everything is checked when the folder is opened, and all faults are reported together.  The digest covers every image
and every row that is used, so the same content has the same digest in any folder.

The kind of each metadata column is inferred from its values: words make slices, numbers are binned, others do neither.
``slices: auto`` in ``dataset.yaml`` applies the inference; without it the kinds are only reported, so that a column of
numbers that was declared as words is noticed.

Targets (ground truth) of the native format: a class, a text, a mask or boxes for each image.
"""

from __future__ import annotations

import datetime
import hashlib
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from auditsvc.datasets import Batch, Dataset, Slices
from auditsvc.datasets.coco import Annotations, Box, read_annotations
from auditsvc.datasets.description import Description, description_file, read_description
from auditsvc.datasets.images import DECODED_CACHE_BYTES, UNREADABLE, Images, open_images
from auditsvc.datasets.multi_domain import join_domains
from auditsvc.datasets.readers import DatasetReader, Recognition
from auditsvc.datasets.table import Row, build_slices, raise_faults, read_table, select_rows, target_faults
from auditsvc.errors import InvalidDataset
from auditsvc.records import DatasetRef, Value, canonical_json, digest_of
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


Kind = Literal["words", "numbers", "dates", "names", "one value", "empty"]

FEW_NUMBERS, MANY_WORDS, BINS = 12, 50, 5
"""Up to 12 distinct numbers are codes (words); more than 50 distinct words are names; numbers are split into 5 bins."""


class Column(Value):
    """A metadata column: kind, number of distinct values, images without a value, and use."""

    name: str
    kind: Kind
    values: int
    missing: int
    use: str


def column_kind(values: Sequence[str], rows: int) -> Kind:
    """The kind of a column from its values, empty ones left out; ``rows`` counts all images."""
    distinct = set(values)
    if not distinct:
        return "empty"
    if len(distinct) > FEW_NUMBERS and all(map(_is_number, distinct)):
        return "numbers"
    if len(distinct) > FEW_NUMBERS and all(map(_is_date, distinct)):
        return "dates"
    if len(distinct) > MANY_WORDS or (len(distinct) > 2 and len(distinct) * 2 > rows):
        return "names"
    return "words" if len(distinct) > 1 or len(values) < rows else "one value"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _is_date(text: str) -> bool:
    try:
        datetime.datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def infer_columns(table: Mapping[str, Sequence[str]], uses: Mapping[str, str]) -> tuple[Column, ...]:
    """Every column of a table in its order; ``uses`` says what the description uses some of them for."""
    found = []
    for name, values in table.items():
        there = [value.strip() for value in values if value.strip()]
        kind = column_kind(there, len(values))
        found.append(
            Column(
                name=name,
                kind=kind,
                values=len(set(there)),
                missing=len(values) - len(there),
                use=uses.get(name, "not used"),
            )
        )
    return tuple(found)


def infer_slices(table: Mapping[str, Sequence[str]], taken: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The columns that make slices of words, and those that are binned, of a table; ``taken`` have another use."""
    kinds = {column.name: column.kind for column in infer_columns(table, {}) if column.name not in taken}
    words = tuple(name for name, kind in kinds.items() if kind == "words")
    return words, {name: BINS for name, kind in kinds.items() if kind == "numbers"}


@dataclass
class FolderDataset:
    """A data set folder that was checked; implements ``Dataset``."""

    ref: DatasetRef
    slices: Slices
    classes: tuple[str, ...]
    images: Images
    names: tuple[str, ...]
    targets: Targets
    columns: tuple[Column, ...] = ()
    """Every column of the metadata, what was infer_columns of it and what it is used for."""

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """All images, or the chosen ones, in order, ``size`` at a time."""
        numbers = np.arange(self.ref.images) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            pixels = torch.from_numpy(self.images.read(part)).permute(0, 3, 1, 2).float().div_(255)
            yield Batch(pixels, self.targets.read(part), torch.from_numpy(part))

    def target_of(self, index: int) -> torch.Tensor:
        """The target of one image."""
        return self.targets.read(np.array([index]))[0]

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


class FolderReader(DatasetReader):
    """Reads the native format: a folder with ``dataset.yaml``, or one of several descriptions (``*.yaml``) in it."""

    format = "folder"
    expects = "a dataset.yaml, or the path of another description (*.yaml)"

    def recognises(self, path: Path) -> Recognition | None:
        """By the description file."""
        source = description_file(path)
        return Recognition(source.name, declared=True) if source.is_file() else None

    def read(self, path: Path) -> Dataset:
        """Read and check a folder; a description with ``other_domain`` opens both data sets as one (``multi_domain``).

        Raises:
            InvalidDataset: with every fault of the description, the table and the images.
            Unavailable: the folder can't be read.
        """
        folder, description = read_description(path)
        own = self._read_folder(folder, description)
        if description.other_domain is None:
            return own
        beside, other = read_description(folder / description.other_domain)
        if other.other_domain is not None:
            raise InvalidDataset(f"{description.other_domain} names another domain itself; two are compared, not three")
        return join_domains(own, self._read_folder(beside, other))

    def _read_folder(self, folder: Path, description: Description) -> FolderDataset:
        annotations = _read_annotations(folder, description)
        table = read_table(folder, description, () if annotations is None else annotations.images)
        kept = select_rows(table, description.where)
        rows = tuple(table[number] for number in kept)
        raise_faults(folder, [] if rows else [f"no row of the metadata has {description.where or 'any content'}"])
        description, columns = _resolve_slices(description, rows)
        faults: list[str] = []
        own: list[str] = []
        slices = build_slices(rows, description, faults)
        names, images = open_images(folder, table, kept, description, faults)
        targets = build_targets(folder, rows, description, annotations, images.size, own)
        raise_faults(folder, own + faults)
        return FolderDataset(
            ref=_dataset_ref(description, rows, images.digests, targets.contents),
            slices=slices,
            classes=description.classes,
            images=images,
            names=names,
            targets=targets,
            columns=columns,
        )


def _resolve_slices(description: Description, rows: tuple[Row, ...]) -> tuple[Description, tuple[Column, ...]]:
    """The description with its slices named, where they were to be infer_columns, and every column as it is used."""
    table = {name: [row[name] for row in rows] for name in rows[0].fields}
    uses = {description.image: "the image", **target_use(description), **dict.fromkeys(description.where, "picks rows")}
    if description.cluster:
        uses[description.cluster] = "clusters"
    if description.slices == "auto":
        words, numbers = infer_slices(table, (*uses, *description.bins))
        named: dict[str, Any] = {"slices": words, "bins": numbers | description.bins}
        description = description.model_copy(update=named)
    uses |= dict.fromkeys(description.named_slices, "slices")
    uses |= {name: f"{bins} bins" if isinstance(bins, int) else "bins" for name, bins in description.bins.items()}
    return description, infer_columns(table, uses)


def _read_annotations(folder: Path, description: Description) -> Annotations | None:
    if description.annotations is None:
        return None
    return read_annotations(folder / description.annotations, tracked=description.target_kind == "tracks")


def _dataset_ref(
    description: Description, rows: tuple[Row, ...], digests: tuple[str, ...], targets: tuple[str, ...]
) -> DatasetRef:
    """The data set by content: every image and target, and every field that is read of its row."""
    cluster = (description.cluster,) if description.cluster else ()
    used = (*description.named_slices, *description.bins, *cluster)
    content: dict[str, Any] = {
        "task": description.task,
        "classes": description.classes,
        "columns": (description.target or "annotations", *used),
        "rows": [
            [digest, target, *(row[column] for column in used)]
            for digest, target, row in zip(digests, targets, rows, strict=True)
        ],
    }
    if description.size:
        content["size"] = description.size
    if description.foreground:
        content["foreground"] = True
    if description.bins:
        content["bins"] = dict(description.bins)
    if description.cluster:
        content["cluster"] = description.cluster
    return DatasetRef(
        name=description.name,
        digest=digest_of(canonical_json(content)),
        task=description.task,
        images=len(rows),
        slices=(*description.named_slices, *description.bins),
        source=description.source,
        licence=description.licence,
    )
