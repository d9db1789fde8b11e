"""Tables: a CSV or Parquet file with a row for each image, which it names or, as Hugging Face writes it, holds.

The columns are recognised by their usual names.  Of a column or of files that name parts, one part is read.

Reference: Hugging Face, "Datasets: Image", https://huggingface.co/docs/datasets/image_dataset.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from auditsvc.datasets.description import Description
from auditsvc.datasets.image_dataset import Content, ContentReader
from auditsvc.datasets.readers import Recognition, evaluation_split, name_from
from auditsvc.datasets.table import Row, plain, raise_faults, read_csv, read_parquet_parts, table_faults
from auditsvc.errors import InvalidDataset

IMAGE = ("image", "file_name", "filename", "file", "path", "image_path", "img")
LABEL = ("label", "labels", "target", "class", "category", "truth", "y")
MASK = ("mask", "mask_file", "mask_path", "segmentation")
TEXT = ("text", "transcription", "words")
PART = ("split", "subset", "part", "fold")
"""Usual names of columns, the surest first."""

TASKS = ((LABEL, "classification"), (MASK, "segmentation"), (TEXT, "ocr"))


class TabularReader(ContentReader):
    """Reads a table, or a folder with one table or with the shards of one."""

    format = "table"
    expects = "a CSV or Parquet file with a column image and a column label, mask or text"

    def recognises(self, path: Path) -> Recognition | None:
        """By the suffix."""
        files, _ = _files(path)
        return Recognition(files[0].name, declared=path.is_file()) if files else None

    def content(self, path: Path) -> Content:
        """The rows of the table; images are found from its folder, or in a folder ``images`` next to it."""
        files, notes = _files(path)
        source = files[0]
        parquet = source.suffix == ".parquet"
        (names, rows, faults), embedded, values = read_parquet_parts(files) if parquet else (read_csv(source), None, {})
        image, (target, task) = first_column(IMAGE, names), _target(names)
        faults = [*table_faults(source.name, names, (image or IMAGE[0], target or LABEL[0])), *faults]
        if not rows:
            faults.append(f"{source.name} has no rows")
        raise_faults(f"{source} can't be used", faults)
        named = str(image), str(target)
        classes = values.get(named[1])
        if classes:
            rows = [Row(row.line, row.fields | {named[1]: _named(row[named[1]], classes)}) for row in rows]
        where, chosen = _where(names, rows)
        description = Description(
            name=name_from(path), task=task, image=named[0], target=named[1], where=where, slices="auto",
            classes=classes or _classes(task, [row[named[1]] for row in rows]), source=str(path), licence="not stated",
        )  # fmt: skip
        folder = source.parent
        if embedded is None and not (folder / rows[0][named[0]]).is_file() and (folder / "images").is_dir():
            folder = folder / "images"
        return Content(folder, description, tuple(rows), embedded=embedded, notes=(*notes, *chosen))


def _files(path: Path) -> tuple[list[Path], list[str]]:
    """The table's files, and which part was chosen."""
    if path.is_file():
        return ([path] if path.suffix in (".csv", ".parquet") else []), []
    if not path.is_dir() or (path / "dataset.yaml").is_file():
        return [], []
    found = [file for place in (path, path / "data") for kind in ("*.parquet", "*.csv") for file in
             sorted(place.glob(kind))]  # fmt: skip
    parts: dict[str, list[Path]] = {}
    for file in found:
        parts.setdefault(file.name.split("-")[0], []).append(file)
    if len(parts) < 2:
        return (found if all(file.suffix == ".parquet" for file in found) else found[:1] if len(found) == 1 else []), []
    chosen = evaluation_split(parts)
    return (parts[chosen], [f"the part {chosen} was chosen of {', '.join(parts)}"]) if chosen else ([], [])


def first_column(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of these columns that is there, without regard to case."""
    folded = {name.strip().casefold(): name for name in names}
    return next((folded[name] for name in wanted if name in folded), None)


def _target(names: Sequence[str]) -> tuple[str | None, str]:
    """The column with the target, and the task that it makes."""
    found = ((first_column(wanted, names), task) for wanted, task in TASKS)
    return next(((column, task) for column, task in found if column), (None, "classification"))


def _named(text: str, classes: Sequence[str]) -> str:
    return classes[int(text)] if text.isdecimal() and int(text) < len(classes) else text


def _classes(task: str, values: Sequence[str]) -> tuple[str, ...]:
    """The classes in order: of numbers by their size, of words by the alphabet."""
    if task == "segmentation":
        raise InvalidDataset("a table does not name the classes of its masks; write a dataset.yaml")
    if task == "ocr":
        return tuple(sorted({letter for value in values for letter in value}))
    found = {plain(value) for value in values if value.strip()}
    whole = all(value.isdecimal() for value in found)
    return tuple(sorted(found, key=(lambda value: (int(value), value)) if whole else (lambda value: (0, value))))


def _where(names: Sequence[str], rows: Sequence[Row]) -> tuple[dict[str, str], list[str]]:
    """The rows of one part, if a column names parts, and a note of it."""
    column = first_column(PART, names)
    values = sorted({row[column] for row in rows}) if column else []
    chosen = evaluation_split(values) if len(values) > 1 else None
    if column is None or chosen is None:
        return {}, []
    return {column: chosen}, [f"the rows with {column}={chosen} were chosen of {', '.join(values)}"]
