"""A data set of images and rows: what every reader finds, checked and opened.

A reader only says what is there (``Content``).  Everything is checked here, when it is opened, and all faults are
reported together.  The digest covers every image and every row that is used, so the same content has the same digest
in any folder.

The kind of each metadata column is inferred from its values: words make slices, numbers are binned, others do neither.
``slices: auto`` applies the inference; without it the kinds are only reported, so that a column of numbers that was
declared as words is noticed.
"""

from __future__ import annotations

import datetime
import io
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from auditsvc.datasets.dataset import Batch, Dataset, Slices
from auditsvc.datasets.description import Description
from auditsvc.datasets.images import NO_ROW, ImageArray, ImageFiles, Images, Join, join_files
from auditsvc.datasets.readers import DatasetReader
from auditsvc.datasets.suspicion import suspected_clusters
from auditsvc.datasets.table import (
    Row,
    build_slices,
    clean_rows,
    near_equal,
    number_of,
    plain,
    raise_faults,
    select_rows,
)
from auditsvc.datasets.targets import Annotations, MaskFiles, Targets, TensorTargets, build_targets, target_use
from auditsvc.models.preprocessing import padded_frame
from auditsvc.records import DatasetRef, Value, canonical_json, digest_of
from auditsvc.records.architecture import ArchitectureCard


@dataclass(frozen=True)
class Content:
    """What a reader found: the description, a row for each image, and where images and boxes are.

    Names of images and masks are relative to ``folder``.  ``embedded`` gives the image of a row's number where the
    table holds the images themselves.  ``left_out`` names what has no counterpart, by what is wrong with it; ``notes``
    are what the reader chose.
    """

    folder: Path
    description: Description
    rows: tuple[Row, ...]
    annotations: Annotations | None = None
    embedded: Callable[[int], bytes] | None = None
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def described(self, **changes: Any) -> Content:
        """The same content with other fields of its description.

        Raises:
            ValueError: fields that do not fit.
        """
        fields = self.description.model_dump(exclude_unset=True) | changes
        return replace(self, description=Description.model_validate(fields))


class ContentReader(DatasetReader):
    """A reader that gives a ``Content``: what all built-in formats are."""

    @abstractmethod
    def content(self, path: Path) -> Content:
        """What is there.

        Raises:
            InvalidDataset: with every fault found.
            Unavailable: a file can't be read.
        """

    def read(self, path: Path) -> Dataset:
        """Read and check the whole data set."""
        return open_content(self.content(path))


def open_content(content: Content) -> ImageDataset:
    """Check what a reader found, and open it.

    Raises:
        InvalidDataset: with every fault of the rows, the images and the targets.
    """
    message = f"the data set {content.folder} can't be used"
    where = {column: plain(value) for column, value in content.description.where.items()}
    every, notes = clean_rows(content.rows, content.description)
    joined, faults = _joined(content, every)
    table = tuple(row for row in every if joined is None or row[content.description.image] in joined.paths)
    kept = select_rows(table, where)
    rows = tuple(table[number] for number in kept)
    raise_faults(message, [] if rows else [*faults, f"no row of the metadata has {where or 'any content'}"])
    description, columns = _resolve_slices(content.description, rows)
    slices = build_slices(rows, description, faults)
    for name in description.named_slices:
        notes += tuple(near_equal(name, [row[name] for row in rows if row[name]]))
    names, images = _images(content, joined, rows, kept, faults)
    own: list[str] = []
    shape = (images.size, images.headers)
    targets = build_targets(content.folder, rows, description, content.annotations, shape, own)
    raise_faults(message, list(dict.fromkeys(own + faults)))
    left_out = () if joined is None else joined.notes()
    suspected: tuple[str, ...] = ()
    if description.independent:
        notes += (f"its owner declares the images independent: {description.independent}",)
    else:
        labels = [row[description.target] for row in rows] if description.target else []
        suspected = suspected_clusters(names, labels, [one.taken for one in images.headers], slices.clusters)
    boxes = () if content.annotations is None else content.annotations.notes
    return ImageDataset(
        ref=_dataset_ref(
            description,
            rows,
            images.digests,
            targets.contents,
            (*content.notes, *left_out, *boxes, *notes, *images.notes),
            suspected,
        ),
        slices=slices,
        classes=description.classes,
        images=images,
        names=names,
        targets=targets,
        columns=columns,
        subjects=tuple(f"{of}={row[of]}" for row in rows) if (of := description.cluster) else None,
    )


def _joined(content: Content, rows: Sequence[Row]) -> tuple[Join | None, list[str]]:
    """The files of all rows, without those to be left out, and the faults; None where images are in no files."""
    if content.embedded is not None or (content.folder / ARRAY).is_file():
        return None, []
    faults: list[str] = []
    found = join_files(content.folder, rows, content.description.image, faults)
    found.left_out.update({what: names for what, names in content.left_out.items() if names})
    if content.annotations is not None:
        _join_annotations(found, content.annotations)
    if content.description.unmatched == "refuse":
        return found, faults + found.faults()
    gone = {name for what, names in found.left_out.items() if what != NO_ROW for name in names}
    return replace(found, paths={name: path for name, path in found.paths.items() if name not in gone}), faults


def _join_annotations(found: Join, annotations: Annotations) -> None:
    """Adds images without an entry in the annotations, and entries without a row, to what is left out."""
    listed = dict.fromkeys(annotations.boxes)
    lacking = [name for name in found.paths if name not in listed]
    without = [name for name in listed if name not in found.paths]
    kinds = ((f"has no entry in {annotations.source}", lacking), (f"of {annotations.source} has no row", without))
    found.left_out.update({what: names for what, names in kinds if names})


def _images(
    content: Content, joined: Join | None, rows: Sequence[Row], kept: NDArray[np.int64], faults: list[str]
) -> tuple[tuple[str, ...], Images]:
    """The names of the selected images and their pixels."""
    description = content.description
    if joined is not None:
        names = tuple(row[description.image] for row in rows)
        paths = [joined.paths[name] for name in names]
        return names, ImageFiles(names, lambda number: paths[number].read_bytes(), faults, description)
    if content.embedded is not None:
        load = content.embedded
        names = tuple(row[description.image] or f"#{number}" for row, number in zip(rows, kept, strict=True))
        return names, ImageFiles(names, lambda number: load(int(kept[number])), faults, description)
    if description.size or description.channels or description.annotations:
        faults.append(f"{ARRAY} goes with neither a size nor channels nor annotations: those are for image files")
    return tuple(f"#{number}" for number in kept), ImageArray(content.folder / ARRAY, len(content.rows), kept, faults)


ARRAY = "images.npz"


@dataclass
class ImageDataset:
    """A data set that was read and checked; implements ``Dataset``."""

    ref: DatasetRef
    slices: Slices
    classes: tuple[str, ...]
    images: Images
    names: tuple[str, ...]
    targets: Targets
    columns: tuple[Column, ...] = ()
    """Every column of the metadata, its kind, and what it is used for."""
    subjects: tuple[str, ...] | None = None
    """The cluster that each image is of, as its column and value; None where none are declared."""

    @property
    def several_sizes(self) -> bool:
        """Whether the images have several sizes, and are scaled for each model."""
        return isinstance(self.images, ImageFiles) and self.images.several

    def scaled_for(self, card: ArchitectureCard) -> ImageDataset:
        """The same images as this model takes them, where they have several sizes."""
        if not isinstance(self.images, ImageFiles) or not self.images.several:
            return self
        targets, frame = self.targets, padded_frame(card)
        if isinstance(targets, MaskFiles):
            targets = targets.scaled((card.input.height, card.input.width), padded=frame is not None)
        elif isinstance(targets, TensorTargets) and frame and card.task in ("detection", "tracking"):
            targets = targets.in_frame(frame, [header.shape for header in self.images.headers])
        return replace(self, images=self.images.scaled_for(card), targets=targets)

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
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
        return buffer.getvalue()


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
    return number_of(text) is not None


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


def _resolve_slices(description: Description, rows: tuple[Row, ...]) -> tuple[Description, tuple[Column, ...]]:
    """The description with its slices named, where they were to be inferred, and every column as it is used."""
    table = {name: [row[name] for row in rows] for name in rows[0].fields}
    uses = {description.image: "the image", **target_use(description), **dict.fromkeys(description.where, "picks rows")}
    if description.cluster:
        uses[description.cluster] = "clusters"
    if description.licence_column:
        uses[description.licence_column] = "licences"
    if description.slices == "auto":
        words, numbers = infer_slices(table, (*uses, *description.bins))
        named: dict[str, Any] = {"slices": words, "bins": numbers | description.bins}
        description = description.model_copy(update=named)
    uses |= dict.fromkeys(description.named_slices, "slices")
    uses |= {name: f"{bins} bins" if isinstance(bins, int) else "bins" for name, bins in description.bins.items()}
    return description, infer_columns(table, uses)


def _licence(description: Description, rows: Sequence[Row]) -> str:
    """What permits the use of all images: the licences of single ones joined."""
    if description.licence_column is None:
        return description.licence
    found = sorted({row[description.licence_column].strip() or description.licence for row in rows})
    return found[0] if len(found) == 1 else " AND ".join(f"({one})" if " " in one else one for one in found)


def _dataset_ref(
    description: Description,
    rows: Sequence[Row],
    digests: Sequence[str],
    targets: Sequence[str],
    notes: tuple[str, ...],
    suspected: tuple[str, ...],
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
    if description.channels:
        content["channels"] = description.channels
    if description.foreground:
        content["foreground"] = True
    if description.bins:
        content["bins"] = dict(description.bins)
    if description.cluster:
        content["cluster"] = description.cluster
    for name in ("independent", "lawful_basis"):
        if said := getattr(description, name):
            content[name] = said
    return DatasetRef(
        name=description.name,
        digest=digest_of(canonical_json(content)),
        task=description.task,
        images=len(rows),
        slices=(*description.named_slices, *description.bins),
        source=description.source,
        licence=_licence(description, rows),
        notes=notes or None,
        suspected=suspected or None,
        independent=description.independent,
        lawful_basis=description.lawful_basis,
    )
