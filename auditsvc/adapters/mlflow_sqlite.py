"""A version in an MLflow store that is a local SQLite file, read without MLflow, whose import costs four CPU seconds.

Only plain cases are answered: one row of the default workspace, and files in a local folder.  For everything else the
functions return None, and the caller asks MLflow, whose answers and errors are the same.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlparse
from urllib.request import url2pathname


class StoredVersion(NamedTuple):
    """What the store says about a version: the value of one tag, when and from where it was made, its files."""

    tag: str | None
    created: int
    source: str
    location: str


def stored_version(store: Path, model: str, version: str, tag: str) -> StoredVersion | None:
    """The version and the value of its tag ``tag``; None if MLflow must be asked."""
    try:
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True, timeout=30)) as connection:
            connection.row_factory = sqlite3.Row
            named = "WHERE name = ? AND version = ?"
            rows = connection.execute(f"SELECT * FROM model_versions {named}", (model, version)).fetchall()  # noqa: S608
            tags = connection.execute(
                f"SELECT * FROM model_version_tags {named} AND key = ?",  # noqa: S608
                (model, version, tag),
            ).fetchall()
        if len(rows) != 1 or len(tags) > 1 or not all(_is_plain(row) for row in (*rows, *tags)):
            return None
        row = rows[0]
        value = tags[0]["value"] if tags else None
        return StoredVersion(value, row["creation_time"], row["source"], row["storage_location"] or row["source"])
    except (sqlite3.Error, IndexError):
        return None


def _is_plain(row: sqlite3.Row) -> bool:
    """Whether a row is of the default workspace and of a version that is not deleted."""
    found = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a row has no other way to its names
    return found.get("workspace", "default") == "default" and found.get("current_stage") != "Deleted_Internal"


def copied(location: str, folder: Path) -> Path | None:
    """The files at a ``file:`` address, copied into ``folder``; None if they are not plain files of a local folder.

    Raises:
        OSError: they can't be read or written.
    """
    address = urlparse(location)
    if address.scheme != "file" or address.netloc or address.query or address.fragment:
        return None
    source = Path(url2pathname(address.path))
    inside = list(source.rglob("*"))
    if not inside or any(path.is_symlink() or path.name.startswith(".") for path in (source, *inside)):
        return None
    return Path(shutil.copytree(source, folder / source.name, dirs_exist_ok=True))
