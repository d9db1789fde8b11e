"""Names of files in a release: plain, printable, and different for every reader.

A name that two file systems read as one, or that leaves the folder, is refused before any file is opened.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from auditsvc.provenance.strict import Fault

MAX_DEPTH = 32


def shown(name: str) -> str:
    """A file name that is safe to print."""
    return name.encode("utf-8", "backslashreplace").decode()[:200]


def name_fault(name: str) -> Fault | None:
    """Why this can't be the name of a file in a release, if so."""
    parts = name.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or any(ord(c) < 32 or ord(c) == 127 for c in name)
    ):
        return Fault("NAME_BAD", f"{shown(name)!r} is not a plain relative path")
    if len(name) > 1024 or len(parts) > MAX_DEPTH:
        return Fault("NAME_BAD", f"{shown(name)[:80]!r}... is too long")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return Fault("NAME_BAD", f"{shown(name)!r} is not UTF-8")
    if unicodedata.normalize("NFC", name) != name:
        return Fault("NAME_BAD", f"{shown(name)!r} is not in Unicode normal form C")
    return None


def collisions(names: Iterable[str]) -> list[Fault]:
    """Names that some file systems or readers can't tell apart."""
    seen: dict[str, str] = {}
    faults = []
    for name in names:
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        other = seen.setdefault(key, name)
        if other != name:
            faults.append(Fault("NAME_COLLISION", f"{shown(name)} and {shown(other)} are one name to some readers"))
    return faults
