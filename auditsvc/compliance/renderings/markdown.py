"""Markdown that hostile words can't leave: text stays text in a cell, a line and a block of code."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|!])")


def cell(text: str) -> str:
    """Words on one line, with everything that Markdown or HTML would read escaped."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def fence(text: str) -> str:
    """A command or path as a block of code."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    marks = "`" * max(3, longest + 1)
    return f"{marks}\n{text}\n{marks}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; an empty one says so."""
    if not rows:
        return "Nothing is on record.\n"
    lines = [head, ["---"] * len(head), *([cell(text) or "–" for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
