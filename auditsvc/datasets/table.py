"""``metadata.csv`` or ``metadata.parquet``: one row for each image, and slices from its columns."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auditsvc.datasets import SliceColumn, Slices, column_from
from auditsvc.datasets.description import Description
from auditsvc.datasets.slicing import bin_column
from auditsvc.errors import InvalidDataset

LONGEST_SLICE = 200
"""The longest slice name in characters; a longer one shows that a free-text column was declared as slices."""


@dataclass(frozen=True)
class Row:
    """One row: its line in the file, and its fields as text."""

    line: int
    fields: dict[str, str]

    def __getitem__(self, column: str) -> str:
        return self.fields[column]


def read_table(folder: Path, description: Description, images: Sequence[dict[str, str]] = ()) -> tuple[Row, ...]:
    """Every row of the metadata, in order, with all the columns that the description names.

    Where there is no metadata, ``images`` of the annotations are the rows.

    Raises:
        InvalidDataset: with every missing column and every row that is too long or too short.
    """
    path = folder / "metadata.parquet"
    if images and not path.is_file() and not (folder / "metadata.csv").is_file():
        source = str(description.annotations)
        names, rows = list(images[0]), [Row(number, fields) for number, fields in enumerate(images, 1)]
        faults: list[str] = []
    else:
        names, rows, faults = _parquet(path) if path.is_file() else _csv(folder / "metadata.csv")
        source = path.name if path.is_file() else "metadata.csv"
    faults = [
        *(f"{source} has the column {name!r} twice" for name, times in Counter(names).items() if times > 1),
        *(f"{source} has no column {name!r}; it has {', '.join(names) or 'none'}"
          for name in _wanted(folder, description) if name not in names),
        *faults,
    ]  # fmt: skip
    raise_faults(folder, faults)
    return tuple(rows)


def _wanted(folder: Path, description: Description) -> tuple[str, ...]:
    image = () if (folder / "images.npz").is_file() else (description.image,)
    return (*image, *description.columns)


Table = tuple[list[str], list[Row], list[str]]
"""The columns' names, the rows, and what is wrong with them."""


def _csv(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            names = next(reader, [])
            found = [(reader.line_num, fields) for fields in reader if fields]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidDataset(f"{path} can't be read: {error}") from error
    faults = [
        f"row {line}: {'more' if len(fields) > len(names) else 'fewer'} fields than the header"
        for line, fields in found
        if len(fields) != len(names)
    ]
    return names, [Row(line, dict(zip(names, fields, strict=False))) for line, fields in found], faults


def _parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-untyped]
    except ImportError as error:
        raise InvalidDataset(f"{path} needs pyarrow to be read: pip install pyarrow") from error
    try:
        table = parquet.read_table(path)
    except (OSError, ArrowException) as error:
        raise InvalidDataset(f"{path} can't be read: {error}") from error
    columns = [["" if value is None else str(value) for value in column.to_pylist()] for column in table.columns]
    rows = [Row(number, dict(zip(table.column_names, fields, strict=True)))
            for number, fields in enumerate(zip(*columns, strict=True), 1)]  # fmt: skip
    return list(table.column_names), rows, []


def select_rows(table: tuple[Row, ...], where: dict[str, str]) -> NDArray[np.int64]:
    """The numbers of the rows in which these columns have these values."""
    fits = (all(row[column] == value for column, value in where.items()) for row in table)
    return np.flatnonzero(np.fromiter(fits, bool, len(table)))


def target_faults(rows: tuple[Row, ...], description: Description) -> list[str]:
    """Targets that are not one of the classes."""
    known, column = ", ".join(description.classes), str(description.target)
    return [
        f"row {row.line}: {column} is {row[column]!r}, not one of {known}"
        for row in rows
        if row[column] not in description.classes
    ]


def build_slices(rows: tuple[Row, ...], description: Description, faults: list[str]) -> Slices:
    """The partitions that the description declares; what is wrong with the columns is added to ``faults``."""
    columns = [column_from(name, [row[name] for row in rows]) for name in description.named_slices]
    columns += [_binned(name, rows, description, faults) for name in description.bins]
    for column in columns:
        longest = max(column.names, key=len)
        if len(longest) > LONGEST_SLICE:
            faults.append(f"column {column.column} has a value of {len(longest)} characters: free text, not a group")
    clusters = None
    if description.cluster:
        empty = [row.line for row in rows if not row[description.cluster].strip()]
        faults += [f"row {line}: no {description.cluster}, which every image needs" for line in empty]
        clusters = np.unique([row[description.cluster] for row in rows], return_inverse=True)[1].astype(np.int64)
    return Slices(len(rows), tuple(columns), clusters)


def _binned(name: str, rows: tuple[Row, ...], description: Description, faults: list[str]) -> SliceColumn:
    numbers = np.full(len(rows), np.nan)
    for place, row in enumerate(rows):
        text = row[name].strip()
        try:
            numbers[place] = float(text) if text else np.nan
        except ValueError:
            faults.append(f"row {row.line}: {name} is {text!r}, not a number")
    return bin_column(name, numbers, description.bins[name])


MAX_FAULTS = 20
"""The most faults that an error lists; the others are counted."""


def raise_faults(folder: Path, faults: list[str]) -> None:
    """Raise ``InvalidDataset`` with these faults, if there are any."""
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise InvalidDataset(f"the data set {folder} can't be used", [*faults[:MAX_FAULTS], *more])
