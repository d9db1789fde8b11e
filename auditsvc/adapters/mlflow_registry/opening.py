"""Opening an MLflow store, and what its errors mean.

A new SQLite store is built in memory and put in its place whole: MLflow's own first start runs some seventy
migrations, each with its own commit, and doesn't survive being killed among them.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from auditsvc.errors import Conflict, InvalidInput, NotFound, Unavailable

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
}
"""MLflow reads its settings from the environment; ours hold where nobody has set another.

Left to itself, MLflow tries a server that is not there for four minutes; ours gives up after a quarter of one.
"""

_KINDS: dict[str, type[NotFound] | type[Conflict] | type[InvalidInput]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFound,
    "RESOURCE_ALREADY_EXISTS": Conflict,
    "RESOURCE_CONFLICT": Conflict,
    "INVALID_PARAMETER_VALUE": InvalidInput,
}
"""MLflow's error codes that are no failure of MLflow."""

_SQLITE_FAULTS = {
    5: "is locked by another process: let that one finish, or end it, and run this again",
    8: "can't be written: give this user write access to the file and its folder",
    10: "can't be read or written, the disk reports an error: check the disk",
    11: "is damaged: restore it from a backup",
    13: "is on a full disk: free some space and run this again",
    14: "can't be opened: check that its folder exists and that this user may write there",
    26: "is not a database: give another path, or restore it from a backup",
}
"""SQLite's primary result codes (https://sqlite.org/rescode.html) and what to do about each."""


def open_client(uri: str, artifacts: Path) -> MlflowClient:
    """MLflow's client for this store, silent and without telemetry; a new SQLite store is made first.

    Raises:
        Unavailable: MLflow can't be imported, or the store can't be opened.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise Unavailable(f"MLflow can't be imported: {error}; install auditsvc again") from error
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks of what it raises as well
    store = _sqlite_file(uri)
    if store is not None:
        _prepare(store)
    with translated(uri, artifacts):
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def is_remote(uri: str) -> bool:
    """Whether a server keeps the models, and decides where their files lie."""
    return uri.startswith(("http://", "https://"))


def _sqlite_file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _prepare(store: Path) -> None:
    """Look at the store before MLflow does, which would try fifteen times over many minutes.

    Raises:
        Unavailable: the file can't be opened, or is not a database; or a new one can't be made.
    """
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        if not store.exists():
            _build(store)
        with closing(sqlite3.connect(store, timeout=30)) as connection:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except OSError as error:
        raise Unavailable(disk_fault(store, error)) from error
    except sqlite3.Error as error:
        raise Unavailable(f"the MLflow store {store} {_fault(error)}") from error


def _build(store: Path) -> None:
    """Make a new store in memory, or in the folder for temporary files, and link it into its place whole."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    memory = Path("/dev/shm")  # noqa: S108 - only a folder with a random name of our own inside it is used
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as place:
        built = Path(place) / "mlflow.db"
        with translated(f"sqlite:///{built}", built):
            SqlAlchemyStore(f"sqlite:///{built}", str(store.parent)).engine.dispose()
        with tempfile.NamedTemporaryFile(prefix=".unfinished-", dir=store.parent) as beside:
            with built.open("rb") as source:
                shutil.copyfileobj(source, beside)
            beside.flush()
            os.fsync(beside.fileno())
            Path(beside.name).chmod(0o644)
            try:
                store.hardlink_to(beside.name)
            except FileExistsError:
                return  # another process was faster, and its store is as good


@contextmanager
def translated(uri: str, artifacts: Path) -> Iterator[None]:
    """Turn what MLflow, its database and the disk raise into ours.  Needs MLflow to be imported already."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except MlflowException as error:
        kind = _KINDS.get(error.error_code)
        if kind is not None:
            raise kind(f"MLflow: {_first_line(error)}") from error
        raise Unavailable(f"the MLflow store {_shown(uri)} {_fault(error)}") from error
    except (SQLAlchemyError, sqlite3.Error) as error:
        raise Unavailable(f"the MLflow store {_shown(uri)} {_fault(error)}") from error
    except OSError as error:
        raise Unavailable(disk_fault(artifacts, error)) from error


def _fault(error: BaseException) -> str:
    """What the database said at the bottom of it all, and what to do."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    code = getattr(error, "sqlite_errorcode", None)
    known = None if code is None else _SQLITE_FAULTS.get(code & 0xFF)
    if re.search(r"error code 40[13]\b", _first_line(error)):
        return "does not let us in: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or the token it wants"
    if isinstance(error, ConnectionError):
        return f"can't be reached: {_first_line(error)}; check that the server runs and that the address is right"
    return known or f"failed: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "no reason given")


def _shown(uri: str) -> str:
    """The address without a password."""
    return re.sub(r"//[^/@]*@", "//", uri)


def disk_fault(path: Path, error: OSError) -> str:
    """One line about a write that failed, and what to do."""
    about = f" (at {error.filename})" if error.filename and Path(error.filename) != path else ""
    why = f"{error.strerror or error}{about}"
    return f"can't write {path}: {why}; free some space or choose another folder, and run this again"
