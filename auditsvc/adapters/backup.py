"""Online backup of a store, taken while the service runs.

Databases are copied first, the ledger before all others, each as a consistent snapshot (SQLite's backup API); then the
files.  Files are immutable and are written before a record names them, so the copy has every file its ledger names.

Limits: external databases (PostgreSQL), object storage and data sets are not copied.  A backup contains the private
keys: protect it accordingly.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from auditsvc.errors import Conflict, NotFound, Unavailable

DATABASES = ("ledger.db", "access.db", "mlflow.db", "jobs.db")
"""The ledger first: what it names is there already, in the other databases too."""

_LEFT_OUT = {"data", "workers"}
"""Data sets are managed elsewhere and may be large; worker locks are only valid on this machine."""


def back_up(store: Path, target: Path) -> tuple[str, ...]:
    """Copy a store into a new folder; returns the names of what was copied.

    Raises:
        NotFound: there is no store.
        Conflict: the folder is there already.
        Unavailable: something can't be read or written; what was copied so far is not a backup.
    """
    if not store.is_dir():
        raise NotFound(f"there is no store at {store}")
    if target.exists():
        raise Conflict(f"{target} is there already; name a new folder")
    partial = target.with_name(f"{target.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True, mode=0o700)
        copied = tuple(_copied(store, partial))
        partial.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"{store} can't be copied to {target}: {error}") from error
    return copied


def _copied(store: Path, target: Path) -> Iterator[str]:
    for name in DATABASES:
        if (store / name).exists():
            source, copy = sqlite3.connect(store / name, timeout=30), sqlite3.connect(target / name)
            with closing(source), closing(copy):
                source.backup(copy)
            (target / name).chmod(0o600)
            yield name
    for path in sorted(store.iterdir()):
        if path.name in _LEFT_OUT or path.name.partition("-")[0] in DATABASES or path.name.startswith("."):
            continue
        if path.is_dir():
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns(".unfinished-*", "*.partial"))
        else:
            shutil.copy2(path, target / path.name)
        yield path.name
