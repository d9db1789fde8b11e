"""What kind of column each is, inferred from its values: which make slices, which must be binned, which are neither.

``slices: auto`` in ``dataset.yaml`` takes what is inferred; without it the kinds are told all the same, so that a
column of numbers that was taken for words is seen.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Literal

from auditsvc.records import Value

Kind = Literal["words", "numbers", "dates", "names", "one value", "empty"]

FEW_NUMBERS, MANY_WORDS, BINS = 12, 50, 5
"""Numbers of at most so many values are codes: words; words of more values are names; numbers get so many bins."""


class Column(Value):
    """One column of the metadata: its kind, its number of values, how many images lack one, what it is used for."""

    name: str
    kind: Kind
    values: int
    missing: int
    use: str


def kind_of(values: Sequence[str], rows: int) -> Kind:
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


def inferred(table: Mapping[str, Sequence[str]], uses: Mapping[str, str]) -> tuple[Column, ...]:
    """Every column of a table in its order; ``uses`` says what the description uses some of them for."""
    found = []
    for name, values in table.items():
        there = [value.strip() for value in values if value.strip()]
        kind = kind_of(there, len(values))
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


def automatic(table: Mapping[str, Sequence[str]], taken: Sequence[str]) -> tuple[tuple[str, ...], dict[str, int]]:
    """The columns that make slices of words, and those that are binned, of a table; ``taken`` have another use."""
    kinds = {column.name: column.kind for column in inferred(table, {}) if column.name not in taken}
    words = tuple(name for name, kind in kinds.items() if kind == "words")
    return words, {name: BINS for name, kind in kinds.items() if kind == "numbers"}
