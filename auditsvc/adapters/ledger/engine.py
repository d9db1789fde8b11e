"""Opening the store: connections, transactions, migrations, and foreign errors turned into ours.

SQLite runs with a write-ahead log and ``synchronous=FULL``: what ``append`` returned from has reached the disk.  A
writer takes the lock at once (``BEGIN IMMEDIATE``) and waits at most 30 s for it; PostgreSQL writers queue at one
advisory lock.  So there is one writer at a time, which a Merkle log needs anyway, and readers never wait.

Alembic is slow to import and needed only where the store's revision is not the code's, so only then is it imported.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from auditsvc.adapters.ledger.schema import HEAD, VERSION_TABLE
from auditsvc.errors import Conflict, InvalidInput, Unavailable

if TYPE_CHECKING:
    from alembic.config import Config

WAIT_S = 30
"""How long a writer waits for another, in seconds."""

_WRITER_LOCK = 0x61756469747376
"""The key of PostgreSQL's advisory lock: the letters ``auditsv``."""

_CONFLICTS = {
    "two_people_approve": "who submitted a candidate can't approve it: ask somebody else",
    "two_people_waive": "who submitted a candidate can't waive its rules: ask somebody else",
    "two_people_retire": "who asked for a key to be changed can't confirm it: ask somebody else",
    "two_people_revoke": "who asked for a revocation can't confirm it: ask somebody else",
    "one_approval_each": "this person has approved this decision already: a second approval must be another person's",
    "submission_once": "this candidate was submitted by somebody else already",
    "guarded": "the ledger refuses a decision, approval, waiver or revocation that goes past its constraints",
    "append_only": "the ledger is append-only: nothing in it is changed or deleted",
}

_BUSY = (5, 6)
_LOCKED = f"is locked by another process for more than {WAIT_S} s: let that one finish, or end it, and run this again"
_SQLITE_FAULTS = {
    **dict.fromkeys(_BUSY, _LOCKED),
    8: "can't be written: give this user write access to the file and its folder",
    10: "can't be read or written, the disk reports an error: check the disk; nothing half-written was kept",
    11: "is damaged: restore it from a backup",
    13: "is on a full disk: free some space and run this again; nothing half-written was kept",
    14: "can't be opened: check that its folder exists and that this user may write there",
    23: "can't be opened: this user may not read or write it",
    26: "is not a database: give another path, or restore it from a backup",
}
"""SQLite's primary result codes (https://sqlite.org/rescode.html) and what to do about each."""


def open_engine(url: str, prepare: Callable[[Engine], None] | None = None) -> Engine:
    """An engine for a store of the code's own revision: a new or older ledger is migrated first.

    ``prepare`` makes other tables ready instead.

    Raises:
        InvalidInput: not a database URL.
        Unavailable: can't be opened, no driver, or written by a newer auditsvc.
    """
    try:
        address = make_url(url)
        near = _is_sqlite(address)
        engine = create_engine(address, connect_args={"timeout": WAIT_S} if near else {}, pool_pre_ping=not near)
    except (ArgumentError, NoSuchModuleError) as error:
        raise InvalidInput(f"not a database URL: {url!r}; try sqlite:///auditsvc-store/ledger.db") from error
    except ImportError as error:
        raise Unavailable(f"the database needs a driver that is not installed: {error}") from error
    if _is_sqlite(address):
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    try:
        if _is_sqlite(address) and address.database:
            _make_folder(Path(address.database).parent)
        (prepare or _migrate)(engine)
    except BaseException:
        engine.dispose()
        raise
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A connection that sees the store as it was at its first query."""
    with _translated(engine), engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """The only writer's transaction: all that is done in it is kept, or nothing."""
    with _translated(engine), engine.connect() as connection:
        connection = connection.execution_options(auditsvc_begin="BEGIN IMMEDIATE")
        with connection.begin():
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITER_LOCK})
            yield connection


def _is_sqlite(address: Any) -> bool:
    return bool(address.get_backend_name() == "sqlite")


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get("auditsvc_begin", "BEGIN")
    if begin:
        connection.exec_driver_sql(begin)


def _migrate(engine: Engine) -> None:
    with reading(engine) as connection:
        if _revision(connection) == HEAD:
            return
    if _is_sqlite(engine.url):
        use_wal(engine)
    with writing(engine) as connection:
        found = _revision(connection)  # again: another process may have been faster
        if found != HEAD:
            _upgrade(connection, found)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"the database's folder {folder} can't be made: {error.strerror}") from error


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found = connection.exec_driver_sql(f"SELECT version_num FROM {VERSION_TABLE}").scalar()  # noqa: S608 - a constant
    return None if found is None else str(found)


def use_wal(engine: Engine) -> None:
    """Switch to the write-ahead log, once for the store's life.

    Of several processes that open a new store at once, SQLite refuses all but one here without waiting; so we wait.
    """
    until = time.monotonic() + WAIT_S
    while True:
        try:
            with engine.connect().execution_options(auditsvc_begin="") as connection:
                connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except DatabaseError as error:
            if _sqlite_code(error) not in _BUSY or time.monotonic() > until:
                raise Unavailable(f"the database at {place(engine)} {_fault(error)}") from error
            time.sleep(0.05)


def _upgrade(connection: Connection, found: str | None) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    settings = _alembic()
    known = {script.revision for script in ScriptDirectory.from_config(settings).walk_revisions()}
    if found is not None and found not in known:
        raise Unavailable(
            f"the database at {place(connection.engine)} was written by a newer auditsvc "
            f"(its revision is {found}, this one knows up to {HEAD}): install the newer version"
        )
    settings.attributes["connection"] = connection
    command.upgrade(settings, "head")


def _alembic() -> Config:
    from alembic.config import Config

    settings = Config()
    settings.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    settings.set_main_option("path_separator", "os")
    return settings


def place(engine: Engine) -> str:
    """Where the store is, without a password."""
    if _is_sqlite(engine.url):
        return engine.url.database or ":memory:"
    return engine.url.render_as_string(hide_password=True)


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except IntegrityError as error:
        raise Conflict(_conflict(str(error.orig))) from error
    except DatabaseError as error:
        raise Unavailable(f"the database at {place(engine)} {_fault(error)}") from error
    except SQLAlchemyError as error:
        raise Unavailable(f"the database at {place(engine)} failed: {error}") from error


def _conflict(message: str) -> str:
    for name, words in _CONFLICTS.items():
        if name in message:
            return words
    return f"a constraint of the ledger forbids this: {message.splitlines()[0]}"


def _sqlite_code(error: DatabaseError) -> int | None:
    """SQLite's primary result code; None from another database."""
    code = getattr(error.orig, "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _fault(error: DatabaseError) -> str:
    code = _sqlite_code(error)
    if code in _SQLITE_FAULTS:
        return _SQLITE_FAULTS[code]
    first = next(iter(str(error.orig).strip().splitlines()), "no answer")
    if isinstance(error, OperationalError) and code is None:
        return f"can't be reached: {first}; check that the server runs and that the address and password are right"
    return f"failed: {first}"
