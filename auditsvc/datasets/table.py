"""``metadata.csv`` or ``metadata.parquet``: one row for each image, and slices from its columns."""

from __future__ import annotations

import csv
import difflib
import json
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def read_table(folder: Path, images: Sequence[dict[str, str]] = ()) -> tuple[str, Table]:
    """The name of the metadata's file, and what is in it.

    Where there is no metadata, ``images`` of the annotations are the rows.

    Raises:
        InvalidDataset: a file that can't be read.
    """
    for name, read in (("metadata.parquet", read_parquet), ("metadata.csv", read_csv)):
        if (folder / name).is_file() or (name == "metadata.csv" and not images):
            return name, read(folder / name)
    return "", (list(images[0]), [Row(number, fields) for number, fields in enumerate(images, 1)], [])


def table_faults(source: str, names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """Columns that are there twice, and those that are not there."""
    faults = [f"{source} has the column {name!r} twice" for name, times in Counter(names).items() if times > 1]
    known = ", ".join(names) or "none"
    faults += [f"{source} has no column {name!r}; it has {known}{nearest(name, names)}"
               for name in wanted if name not in names]  # fmt: skip
    if len(names) == 1 and faults and (found := next((mark for mark in ";\t|" if mark in names[0]), None)):
        faults.append(f"{source} separates its fields by {found!r}; write commas")
    return faults


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'boot'?``, if one of the known words is near."""
    alike = {plain(one).casefold(): one for one in known}
    found = difflib.get_close_matches(plain(word).casefold(), alike, 1)
    return f"; did you mean {alike[found[0]]!r}?" if found else ""


Table = tuple[list[str], list[Row], list[str]]
"""The columns' names, the rows, and what is wrong with them."""


def read_csv(path: Path) -> Table:
    """A CSV file in UTF-8 with a header."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            names = next(reader, [])
            found = [(reader.line_num, fields) for fields in reader if fields]
            if odd := next((line for line, fields in found if "\0" in "".join(fields)), 0):
                raise csv.Error(f"line {odd} has a NUL")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidDataset(f"{path} can't be read: {error}") from error
    faults = [
        f"row {line}: {'more' if len(fields) > len(names) else 'fewer'} fields than the header"
        for line, fields in found
        if len(fields) != len(names)
    ]
    return names, [Row(line, dict(zip(names, fields, strict=False))) for line, fields in found], faults


def read_parquet(path: Path) -> Table:
    """A Parquet file; its values as text."""
    return read_parquet_parts([path])[0]


Embedded = Callable[[int], bytes]
"""The image file of a row's number."""


def read_parquet_parts(paths: Sequence[Path]) -> tuple[Table, Embedded | None, dict[str, tuple[str, ...]]]:
    """The Parquet files of one table: its values as text, the images that it holds, the names of coded classes.

    Images are a column of ``bytes`` and ``path``, and class names in the metadata of the schema, as Hugging Face's
    ``datasets`` writes them.

    Raises:
        InvalidDataset: a file that can't be read, or files that do not belong together.
    """
    try:
        import pyarrow  # type: ignore[import-untyped]
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidDataset(f"{paths[0]} needs pyarrow to be read: pip install pyarrow") from error
    try:
        table = pyarrow.concat_tables([parquet.read_table(path) for path in paths])
    except (OSError, pyarrow.ArrowException) as error:
        raise InvalidDataset(f"{paths[0]} can't be read: {error}") from error
    structs = [name for name in table.column_names if pyarrow.types.is_struct(table.schema.field(name).type)]
    held = next((name for name in structs if table.schema.field(name).type.get_field_index("bytes") >= 0), None)
    images = None if held is None else table.column(held)

    def embedded(number: int) -> bytes:
        found = images[number].as_py() if images is not None else None
        if not found or found["bytes"] is None:
            raise FileNotFoundError
        return bytes(found["bytes"])

    texts = {name: [""] * len(table) if name == held else [_text(value) for value in table.column(name).to_pylist()]
             for name in dict.fromkeys(table.column_names)}  # fmt: skip
    rows = [Row(number, dict(zip(texts, fields, strict=True)))
            for number, fields in enumerate(zip(*texts.values(), strict=True), 1)]  # fmt: skip
    return (list(table.column_names), rows, []), None if held is None else embedded, _coded(table.schema.metadata)


def _coded(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """The class names of each column that Hugging Face's metadata says to be coded."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        return {name: tuple(one["names"]) for name, one in features.items() if one.get("_type") == "ClassLabel"}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}


def _text(value: object) -> str:
    return "" if value is None else str(value)


_INVISIBLE = {"Cf", "Cc"}
"""Unicode categories of characters that print nothing: zero-width spaces, joiners, direction marks."""


def plain(text: str) -> str:
    """The text in Unicode form NFC, without invisible characters, with single spaces and none at its ends.

    Reference: Unicode Standard Annex #15, "Unicode Normalization Forms".
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    shown = (" " if letter.isspace() else letter for letter in unicodedata.normalize("NFC", text)
             if letter.isspace() or unicodedata.category(letter) not in _INVISIBLE)  # fmt: skip
    return " ".join("".join(shown).split())


MISSING_WORDS = {"nan", "n/a", "#n/a", "<na>", "null", "nat"}
"""What programs write for a value that is not there.  ``NA`` and ``none`` may be words, and count as such."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def number_of(text: str) -> float | None:
    """A finite decimal number; None for anything else: ``1_000``, ``inf`` and ``0x10`` are no numbers here."""
    found = float(text) if _NUMBER.fullmatch(text) else math.inf
    return found if math.isfinite(found) else None


def clean_rows(rows: Sequence[Row], description: Description) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The rows with every value but file names in its ``plain`` form, and notes on what that changed.

    In columns other than the target's, what programs write for a missing value is empty.
    """
    files = {description.image, *([description.target] if description.target_kind == "mask" else [])}
    exact = {description.target} if description.target_kind == "text" else set()
    notes: list[str] = []
    fields: dict[str, list[str]] = {}
    for column in rows[0].fields if rows else ():
        values = [row[column] for row in rows]
        if column in files:
            fields[column] = values
            continue
        if column in exact:  # spaces of a text are part of it
            fields[column] = [unicodedata.normalize("NFC", value) for value in values]
        else:
            fields[column] = [plain(value) for value in values]
        notes += _changed(column, rows, fields[column])
        if column != description.target:
            notes += _missing(column, fields[column])
            fields[column] = ["" if value.casefold() in MISSING_WORDS else value for value in fields[column]]
    cleaned = zip(rows, zip(*fields.values(), strict=True), strict=True)
    return tuple(Row(row.line, dict(zip(fields, values, strict=True))) for row, values in cleaned), tuple(notes)


def _changed(column: str, rows: Sequence[Row], values: Sequence[str]) -> list[str]:
    changed = [(row.line, row[column]) for row, value in zip(rows, values, strict=True) if row[column] != value]
    if not changed:
        return []
    line, text = changed[0]
    return [f"column {column}: {len(changed)} values were normalised (spaces, invisible characters, Unicode form), "
            f"the first in row {line}: {text!a}"]  # fmt: skip


def _missing(column: str, values: Sequence[str]) -> list[str]:
    found = Counter(value for value in values if value.casefold() in MISSING_WORDS)
    words = ", ".join(f"{word} {times}" for word, times in found.items())
    return [f"column {column}: {found.total()} values count as missing ({words})"] if found else []


def near_equal(column: str, values: Iterable[str]) -> list[str]:
    """A note for each group of values that differ in case, punctuation, width or the form of a number alone."""
    groups: dict[str, Counter[str]] = {}
    for value in values:
        folded = unicodedata.normalize("NFKC", value).casefold()
        number = number_of(folded.strip())
        key = "".join(filter(str.isalnum, folded)) if number is None else f"{number:g}"
        groups.setdefault(key or value, Counter())[value] += 1
    alike = [found for found in groups.values() if len(found) > 1]
    return [f"column {column}: near-equal values are kept apart: "
            f"{', '.join(f'{value!r} ({times} images)' for value, times in found.items())}"
            for found in alike]  # fmt: skip


def select_rows(table: Sequence[Row], where: dict[str, str]) -> NDArray[np.int64]:
    """The numbers of the rows in which these columns have these values."""
    fits = (all(row[column] == value for column, value in where.items()) for row in table)
    return np.flatnonzero(np.fromiter(fits, bool, len(table)))


def target_faults(rows: Sequence[Row], description: Description) -> list[str]:
    """Targets that are not one of the classes."""
    known, column = ", ".join(description.classes), str(description.target)
    return [
        f"row {row.line}: {column} is {row[column]!r}, not one of {known}{nearest(row[column], description.classes)}"
        for row in rows
        if row[column] not in description.classes
    ]


def build_slices(rows: Sequence[Row], description: Description, faults: list[str]) -> Slices:
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


def _binned(name: str, rows: Sequence[Row], description: Description, faults: list[str]) -> SliceColumn:
    numbers = np.full(len(rows), np.nan)
    for place, row in enumerate(rows):
        text = row[name]
        number = number_of(text)
        if text and number is None:
            faults.append(f"row {row.line}: {name} is {text!r}, not a number")
        numbers[place] = np.nan if number is None else number
    return bin_column(name, numbers, description.bins[name])


MAX_FAULTS = 20
"""The most faults that an error lists; the others are counted."""


def raise_faults(message: str, faults: Sequence[str]) -> None:
    """Raise ``InvalidDataset`` with these faults, if there are any."""
    if faults:
        more = [f"and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        raise InvalidDataset(message, [*faults[:MAX_FAULTS], *more])
