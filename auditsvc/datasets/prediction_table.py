"""Predictions of two models in one table, or in two COCO result files, with the images that they are of.

A table has a column ``image``, a column ``truth`` (or another usual name), and for each model and class a column of
scores, ``parent_cat`` and ``candidate_cat``, or one column ``parent`` and ``candidate`` with the class alone.  Other
columns make slices.

Reference: COCO, "Results format", https://cocodataset.org/#format-results.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor

from auditsvc.datasets.dataset import Batch, Dataset
from auditsvc.datasets.description import Description
from auditsvc.datasets.image_dataset import Content, ImageDataset, open_content
from auditsvc.datasets.readers import name_from
from auditsvc.datasets.slicing import ReslicedDataset
from auditsvc.datasets.table import Row, Table, number_of, plain, raise_faults, read_csv, read_parquet, table_faults
from auditsvc.datasets.tabular import IMAGE, LABEL, first_column
from auditsvc.errors import InvalidDataset, InvalidInput
from auditsvc.records import DatasetRef, faults_of
from auditsvc.records.architecture import SUPPRESSED

WHOSE = ("parent", "candidate")
_SCORE = re.compile(r"(parent|candidate)[ _.:-](.+)")
_SUM_TOLERANCE = 0.01

ANSWER = 10.0
"""The output of the class that is answered, where there are no scores."""

_BLANK = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNoAAAAggCBd81ytgAAAABJRU5ErkJggg=="
)
"""A grey pixel, which stands for an image that is not here."""


class PredictedDataset(ReslicedDataset):
    """The images that predictions are of: a batch holds the images' numbers ``(N, 1, 1, 1)`` and not their pixels."""

    @property
    def ref(self) -> DatasetRef:
        """The images, with a note that no model ran on them."""
        ref = super().ref
        return ref.model_copy(update={"notes": (*(ref.notes or ()), "predictions only: no model ran on the images")})

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """The numbers of all images, or of the chosen ones, and their targets."""
        numbers = np.arange(self.ref.images) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = numbers[start : start + size]
            targets = torch.stack([self.whole.target_of(int(number)) for number in part])
            places = torch.from_numpy(np.asarray(part, np.int64))
            yield Batch(places.float()[:, None, None, None], targets, places)


@dataclass(frozen=True)
class PredictionTable:
    """The outputs of both models as their task takes them, in the order of the data set; scores or answers."""

    dataset: PredictedDataset
    outputs: Mapping[str, Tensor]
    kind: Literal["scores", "answers"]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the images, in order."""
        return tuple(self.dataset.name_of(number) for number in range(self.dataset.ref.images))


def read_predictions(path: Path, data: Dataset | None = None) -> PredictionTable:
    """Read a CSV or Parquet file; with ``data``, truth and slices are those of that data set, image by image.

    Raises:
        InvalidDataset: with every fault of the table.
    """
    names, rows, faults = _table(path)
    image, truth = first_column(IMAGE, names), first_column(("truth", *LABEL), names)
    classes, kind = _classes(names, rows, truth)
    wanted = (image or "image", *([] if data else [truth or "truth"]))
    faults = [*table_faults(path.name, names, wanted), *faults]
    if not classes:
        faults.append(
            "it has no scores: a column parent_CLASS and candidate_CLASS for each class, or parent and candidate"
        )
    if not rows:
        faults.append("it has no rows")
    raise_faults(f"{path} can't be used", faults)
    own = {name for name in names if _SCORE.fullmatch(name) or name in WHOSE}
    counted = Counter(row[str(image)] for row in rows)
    faults = [f"image {name or '(none)'} is named by {times} rows" for name, times in counted.items()
              if times > 1 or not name]  # fmt: skip
    outputs, notes = {}, []
    for whose in WHOSE:
        outputs[whose], note = _outputs(whose, rows, classes, kind, faults)
        notes += note
    raise_faults(f"{path} can't be used", faults)
    if data is None:
        opened: Dataset = _alone(path, [name for name in names if name not in own], rows, (str(image), str(truth)),
                                 classes, tuple(notes))  # fmt: skip
        return PredictionTable(PredictedDataset(opened, opened.slices), outputs, kind)
    order = _order(path, [row[str(image)] for row in rows], data)
    places = _class_places(path, classes, data.classes)
    ordered = {whose: one[order][:, places] for whose, one in outputs.items()}
    return PredictionTable(PredictedDataset(data, data.slices), ordered, kind)


def _table(path: Path) -> Table:
    if path.suffix not in (".csv", ".parquet"):
        raise InvalidDataset(f"{path} is neither a CSV nor a Parquet file")
    return read_parquet(path) if path.suffix == ".parquet" else read_csv(path)


def _classes(
    names: Sequence[str], rows: Sequence[Row], truth: str | None
) -> tuple[tuple[str, ...], Literal["scores", "answers"]]:
    """The classes in the order of the candidate's columns, or, of answers alone, sorted."""
    found = [match for name in names if (match := _SCORE.fullmatch(name))]
    if found:
        each = {whose: [plain(match[2]) for match in found if match[1] == whose] for whose in WHOSE}
        if sorted(each["parent"]) != sorted(each["candidate"]):
            lacking = sorted({*each["parent"]} ^ {*each["candidate"]})
            raise InvalidDataset(f"parent and candidate have scores of other classes: {', '.join(lacking)}")
        return tuple(each["candidate"]), "scores"
    if not {*WHOSE} <= {*names}:
        return (), "answers"
    columns = [*WHOSE, *([truth] if truth else [])]
    values = sorted({plain(row[column]) for row in rows for column in columns if column in row.fields} - {""})
    return tuple(values), "answers"


def _outputs(
    whose: str, rows: Sequence[Row], classes: tuple[str, ...], kind: str, faults: list[str]
) -> tuple[Tensor, list[str]]:
    """``(N, C)`` logits of one model: given as such, or the logarithms of probabilities."""
    values = np.zeros((len(rows), len(classes)))
    if kind == "answers":
        places = {name: place for place, name in enumerate(classes)}
        for number, row in enumerate(rows):
            place = places.get(plain(row[whose]))
            if place is None:
                faults.append(f"row {row.line}: {whose} is {row[whose]!r}, which is no class")
            else:
                values[number, place] = ANSWER
        return torch.from_numpy(values).float(), []
    columns = {
        plain(match[2]): name for name in rows[0].fields if (match := _SCORE.fullmatch(name)) and match[1] == whose
    }
    for number, row in enumerate(rows):
        for place, name in enumerate(classes):
            score = number_of(row[columns[name]].strip())
            if score is None:
                faults.append(f"row {row.line}: {columns[name]} is {row[columns[name]]!r}, not a number")
            values[number, place] = 0 if score is None else score
    if not bool(((values >= 0) & (values <= 1)).all()):
        return torch.from_numpy(values).float(), [f"{whose}: the scores are logits, as some are outside 0..1"]
    wrong = [row.line for row, total in zip(rows, values.sum(axis=1), strict=True) if abs(total - 1) > _SUM_TOLERANCE]
    if wrong:
        faults.append(
            f"{whose}: the scores of {len(wrong)} rows, the first {wrong[0]}, are in 0..1 and do not sum to 1; "
            "give probabilities or logits"
        )
    return torch.from_numpy(np.log(np.maximum(values, 1e-12))).float(), [f"{whose}: the scores are probabilities"]


def _alone(
    path: Path, names: Sequence[str], rows: Sequence[Row], columns: tuple[str, str], classes: tuple[str, ...],
    notes: tuple[str, ...],
) -> ImageDataset:  # fmt: skip
    """A data set without pixels, of the table's own truth and slices."""
    try:
        description = Description(
            name=name_from(path), task="classification", image=columns[0], target=columns[1], classes=classes,
            slices="auto", source=path.name, licence="not stated",
        )  # fmt: skip
    except ValidationError as error:
        raise InvalidDataset(f"{path} can't be used", faults_of(error)) from error
    kept = tuple(Row(row.line, {name: row[name] for name in names}) for row in rows)
    blanks = [_BLANK + row[columns[0]].encode() for row in kept]  # so that the digest names the image
    return open_content(Content(path.parent, description, kept, embedded=blanks.__getitem__, notes=notes))


def _order(path: Path, names: Sequence[str], data: Dataset) -> list[int]:
    """For each image of the data set its row; every image needs one, and every row an image."""
    rows = {plain(name): number for number, name in enumerate(names)}
    wanted = [plain(data.name_of(number)) for number in range(data.ref.images)]
    faults = [f"no predictions of image {name}" for name in wanted if name not in rows]
    faults += [f"image {name} is not in {data.ref.name}" for name in sorted({*rows} - {*wanted})]
    raise_faults(f"{path} and {data.ref.name} do not have the same images", faults)
    return [rows[name] for name in wanted]


def _class_places(path: Path, classes: tuple[str, ...], wanted: tuple[str, ...]) -> list[int]:
    if sorted(classes) != sorted(wanted):
        raise InvalidDataset(
            f"{path} has scores of {', '.join(classes)}; the data set's classes are {', '.join(wanted)}"
        )
    return [classes.index(name) for name in wanted]


def read_results(parent: Path, candidate: Path, data: ImageDataset, content: Content) -> PredictionTable:
    """Read two COCO result files: boxes with scores for the images of a COCO data set.

    Raises:
        InvalidInput: a data set without COCO annotations.
        InvalidDataset: with every fault of the results.
    """
    known = content.annotations
    if known is None or not known.ids:
        raise InvalidInput("COCO results need a data set with a COCO file, which has the ids of images and categories")
    turned = [name for name, header in zip(data.names, data.images.headers, strict=True)
              if known.sizes[name] != header.shape]  # fmt: skip
    if turned:
        raise InvalidInput(f"results for images that are stored turned can't be read: {', '.join(turned[:3])}")
    images = {known.ids[name]: number for number, name in enumerate(data.names)}
    classes = {key: data.classes.index(name) for key, name in known.categories.items() if name in data.classes}
    sizes = [known.sizes[name] for name in data.names]
    outputs = {whose: _boxes(path, images, classes, sizes, len(data.classes))
               for whose, path in zip(WHOSE, (parent, candidate), strict=True)}  # fmt: skip
    return PredictionTable(PredictedDataset(data, data.slices), outputs, "scores")


def _boxes(
    path: Path, images: Mapping[Any, int], classes: Mapping[Any, int], sizes: Sequence[tuple[int, int]], width: int
) -> Tensor:
    """``(N, A, 4 + C + 1)``: boxes as fractions, the score at the place of their class, and ``SUPPRESSED``."""
    try:
        results = json.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise InvalidDataset(f"{path} can't be read: {error}") from error
    if not isinstance(results, list):
        raise InvalidDataset(f"{path} is not a list of COCO results")
    found: list[list[tuple[float, ...]]] = [[] for _ in sizes]
    faults = []
    for number, one in enumerate(results):
        try:
            image, kind, score = images[one["image_id"]], classes[one["category_id"]], float(one["score"])
            left, top, across, down = (float(value) for value in one["bbox"])
            if not (all(map(math.isfinite, (left, top, across, down))) and 0 <= score <= 1):
                raise ValueError("numbers must be finite, and the score in 0..1")
            height, length = sizes[image]
            scores = [score if place == kind else 0.0 for place in range(width)]
            box = (left / length, top / height, (left + across) / length, (top + down) / height)
            found[image].append((*box, *scores, SUPPRESSED))
        except KeyError as error:
            faults.append(f"result {number}: {error} does not exist")
        except (TypeError, ValueError) as error:
            faults.append(f"result {number}: {error}")
    raise_faults(f"{path} can't be used", faults)
    outputs = torch.zeros(len(sizes), max(1, *(len(boxes) for boxes in found)), 4 + width + 1)
    for number, boxes in enumerate(found):
        if boxes:
            outputs[number, : len(boxes)] = torch.tensor(boxes)
    return outputs
