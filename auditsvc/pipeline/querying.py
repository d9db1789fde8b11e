"""Hand out the pictures that a suspect is to be asked, and read what it answered.

The pictures are ordinary ones (a suspect can't tell that it is being tested), named by their content.  What is
handed out shows nothing of any key; how the answers are judged stays here, encrypted.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.watermark import Queries

SHEET = "answers.csv"
"""The file to be filled in."""


def pictures(queries: Queries) -> dict[str, bytes]:
    """The pictures of a set of queries as PNG files, by name, in its order.

    Raises:
        InvalidInput: images of neither one nor three channels.
    """
    return dict(_picture(image) for image in _bytes_of(queries))


def hand_out(sets: Iterable[Queries], folder: Path) -> int:
    """Write all pictures of these sets and the sheet to be filled in; the number of pictures.

    Raises:
        InvalidInput: no queries, or a folder that is not empty.
        Unavailable: the folder can't be written.
    """
    files: dict[str, bytes] = {}
    for queries in sets:
        files |= pictures(queries)
    if not files:
        raise InvalidInput("no version here has queries that could be handed out")
    sheet = "image,label\n" + "".join(f"{name},\n" for name in sorted(files))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise InvalidInput(f"{folder} is not empty; give a new folder")
        for name, data in files.items():
            (folder / name).write_bytes(data)
        (folder / SHEET).write_text(sheet)
    except OSError as error:
        raise Unavailable(f"{folder} can't be written: {error.strerror}") from error
    return len(files)


@dataclass(frozen=True)
class Answers:
    """What a suspect answered, by picture: one label, or one number for each class named in ``classes``."""

    by_picture: Mapping[str, tuple[str, ...]]
    classes: tuple[str, ...]

    def to(self, queries: Queries, classes: tuple[str, ...]) -> Tensor:
        """The answers to these queries: ``(N,)`` labels as numbers, or ``(N, classes)``.

        Raises:
            InvalidInput: a picture without an answer, or other classes than the model's.
        """
        names = [_name(image) for image in _bytes_of(queries)]
        missing = sum(name not in self.by_picture for name in names)
        if missing:
            raise InvalidInput(f"{missing} of its {len(names)} pictures have no answer")
        rows = [self.by_picture[name] for name in names]
        if not self.classes:
            return torch.tensor([_label(row[0], classes) for row in rows])
        if set(self.classes) != set(classes):
            raise InvalidInput(f"the answers are about the classes {', '.join(self.classes)}, not {', '.join(classes)}")
        order = [self.classes.index(name) for name in classes]
        try:
            return torch.tensor([[float(row[at]) for at in order] for row in rows])
        except ValueError as error:
            raise InvalidInput(f"an answer is no number: {error}") from error


def read_answers(path: Path) -> Answers:
    """Read a filled-in sheet: ``image,label``, or ``image`` and a column of numbers for each class by name.

    Raises:
        InvalidInput: no such file, or another shape; says which line.
    """
    try:
        return parse_answers(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} can't be read: {error}") from error


def parse_answers(text: str) -> Answers:
    """The answers in the text of a sheet.  Raises as ``read_answers``."""
    lines = csv.reader(io.StringIO(text))
    head = [cell.strip() for cell in next(lines, [])]
    if len(head) < 2 or head[0] != "image":
        raise InvalidInput("the first line must be image,label or image and the names of all classes")
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(lines, start=2):
        if not line:
            continue
        if len(line) != len(head):
            raise InvalidInput(f"line {number} has {len(line)} cells, the first line has {len(head)}")
        cells = tuple(cell.strip() for cell in line)
        if all(cells):
            found[Path(cells[0]).name] = cells[1:]
    return Answers(found, () if head[1:] == ["label"] else tuple(head[1:]))


def _label(text: str, classes: tuple[str, ...]) -> int:
    if text in classes:
        return classes.index(text)
    if text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise InvalidInput(f"{text[:80]!r} is none of its classes: {', '.join(classes)}")


def _bytes_of(queries: Queries) -> Tensor:
    return (queries.images * 255).round().to(torch.uint8)


def _name(image: Tensor) -> str:
    return hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()[:16] + ".png"


def _picture(image: Tensor) -> tuple[str, bytes]:
    if image.shape[0] not in (1, 3):
        raise InvalidInput(f"images of {image.shape[0]} channels can't be handed out as pictures")
    pixels = image[0] if image.shape[0] == 1 else image.permute(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(pixels.contiguous().numpy()).save(file, "PNG")
    return _name(image), file.getvalue()
