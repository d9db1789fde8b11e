"""SQL databases: connections, transactions, migrations, and driver errors as auditsvc's own errors.

Each part of auditsvc that keeps tables (the ledger, the service, jobs) describes them as a ``Schema``.  Opening a
``Database`` upgrades it to the schema's newest revision, in one transaction and under the writer's lock, so that
processes that start at the same time upgrade it once.  Schemas may share one database: each has its own version table.

SQLite runs with a write-ahead log and ``synchronous=FULL``: what was committed has reached the disk.  A writer takes
the lock at once (``BEGIN IMMEDIATE``) and waits at most 30 s for it.  PostgreSQL writers queue at one advisory lock.
So there is one writer at a time, which a Merkle log needs anyway, and readers never wait.

Alembic is slow to import and is needed only to upgrade, so it is imported only then.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    inspect,
    make_url,
    text,
)
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from auditsvc.errors import Conflict, InvalidInput, StorageFull, Unavailable

LOCK_TIMEOUT_S = 30
"""How long a writer waits for another one, in seconds."""

_WRITER_LOCK = 0x61756469747376
"""The key of PostgreSQL's advisory lock: the letters ``auditsv``."""

_BUSY = (5, 6)
_LOCKED = f"has been locked by another process for more than {LOCK_TIMEOUT_S} s: stop that process, or retry later"
SQLITE_ERRORS = {
    **dict.fromkeys(_BUSY, _LOCKED),
    8: "can't be written: give this user write access to the file and its folder",
    10: "can't be read or written, the disk reports an error: check the disk; no partial write was kept",
    11: "is damaged: restore it from a backup",
    13: "is on a full disk: free some space and retry; no partial write was kept",
    14: "can't be opened: check that its folder exists and that this user may write there",
    23: "can't be opened: this user may not read or write it",
    26: "is not a database: use another path, or restore it from a backup",
}
"""SQLite's primary result codes (https://sqlite.org/rescode.html) and what to do about each."""


@dataclass(frozen=True)
class Schema:
    """The tables of one part of auditsvc, and the migrations that create them."""

    tables: MetaData
    head: str
    """The revision that this code reads and writes."""
    version_table: str
    """Holds the database's revision; unique for each schema, because schemas and MLflow may share a database."""
    migrations: str
    """The module with the revisions: ``REVISIONS`` maps each to its function, oldest first."""
    conflicts: Mapping[str, str] = field(default_factory=dict)
    """Error messages by the name of the constraint that was violated."""


class Database:
    """One SQL database with the tables of one schema."""

    one_writer = True
    """Whether a PostgreSQL database has one write transaction at a time; a SQLite database has in any case."""

    def __init__(self, url: str, schema: Schema, *, private: bool = False, pool_size: int = 5) -> None:
        """Connect, and create or upgrade the tables.

        ``private`` gives a SQLite file mode 0600.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: can't be opened or upgraded, no driver, or written by a newer auditsvc.
        """
        self.schema = schema
        try:
            address = make_url(url)
            self.is_sqlite = address.get_backend_name() == "sqlite"
            options: dict[str, Any] = (
                {"connect_args": {"timeout": LOCK_TIMEOUT_S}}
                if self.is_sqlite
                else {"pool_pre_ping": True, "pool_size": pool_size}
            )
            self.engine: Engine = create_engine(address, **options)
        except (ArgumentError, NoSuchModuleError) as error:
            raise InvalidInput(f"not a database URL: {url!r}; example: sqlite:///auditsvc-store/ledger.db") from error
        except ImportError as error:
            raise Unavailable(f"the database needs a driver that is not installed: {error}") from error
        try:
            self._prepare(private)
            self._migrate()
        except BaseException:
            self.engine.dispose()
            raise

    @property
    def file(self) -> Path | None:
        """The SQLite file; None on another database and in memory."""
        name = self.engine.url.database if self.is_sqlite else None
        return Path(name) if name else None

    @property
    def location(self) -> str:
        """Where the database is, for messages; without a password."""
        if self.is_sqlite:
            return self.engine.url.database or ":memory:"
        return self.engine.url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def read_tx(self) -> Iterator[Connection]:
        """A read transaction: it sees the database as of its first query.  Raises ``Unavailable``."""
        with self.translate_errors(), self.engine.connect() as connection:
            if not self.is_sqlite:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection

    @contextmanager
    def write_tx(self) -> Iterator[Connection]:
        """A write transaction; committed at the end, rolled back on an error.

        Raises:
            Conflict: a constraint was violated.
            Unavailable: the database can't be read or written.
        """
        with self.translate_errors(), self.engine.connect() as connection:
            connection = connection.execution_options(auditsvc_begin="BEGIN IMMEDIATE")
            with connection.begin():
                if self.one_writer and not self.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _WRITER_LOCK})
                yield connection

    def insert(self, table: Table) -> Any:
        """An ``INSERT`` in this database's dialect, which supports ``ON CONFLICT``."""
        from sqlalchemy.dialects import postgresql, sqlite

        return (sqlite if self.is_sqlite else postgresql).insert(table)

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise SQLAlchemy's errors as ``Conflict`` (a violated constraint) or ``Unavailable`` (all others)."""
        try:
            yield
        except IntegrityError as error:
            raise Conflict(self._conflict(str(error.orig))) from error
        except (DatabaseError, sqlite3.DatabaseError) as error:  # the driver's own comes from the first statements
            kind = StorageFull if _is_full(error) else Unavailable
            raise kind(f"the database at {self.location} {_describe(error)}") from error
        except SQLAlchemyError as error:
            raise Unavailable(f"the database at {self.location} failed: {error}") from error

    def _conflict(self, message: str) -> str:
        for name, explanation in self.schema.conflicts.items():
            if name in message:
                return explanation
        return f"a constraint of the database forbids this: {message.splitlines()[0]}"

    def _prepare(self, private: bool) -> None:
        if not self.is_sqlite:
            return
        event.listen(self.engine, "connect", _prepare_sqlite)
        event.listen(self.engine, "begin", _begin_sqlite)
        if self.file is None:
            return
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if private:
                self.file.touch(0o600)
                self.file.chmod(0o600)  # before SQLite creates the write-ahead log, which gets the same mode
        except OSError as error:
            raise Unavailable(f"the database {self.file} can't be created: {error.strerror}") from error

    def _migrate(self) -> None:
        with self.read_tx() as connection:
            if self._revision(connection) == self.schema.head:
                return
        if self.is_sqlite:
            self._use_wal()
        with self.write_tx() as connection:
            found = self._revision(connection)  # again: another process may have upgraded it meanwhile
            if found != self.schema.head:
                upgrade(connection, self.schema, found, self.location)

    def _revision(self, connection: Connection) -> str | None:
        table = self.schema.version_table
        if not inspect(connection).has_table(table):
            return None
        found = connection.exec_driver_sql(f"SELECT version_num FROM {table}").scalar()  # noqa: S608 - a constant
        return None if found is None else str(found)

    def _use_wal(self) -> None:
        """Switch a SQLite file to the write-ahead log; the setting stays with the file.

        If several processes open a new file at once, SQLite refuses all but one here without waiting; so retry.
        """
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                with self.engine.connect().execution_options(auditsvc_begin="") as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                return
            except DatabaseError as error:
                if _sqlite_code(error) not in _BUSY or time.monotonic() > deadline:
                    raise Unavailable(f"the database at {self.location} {_describe(error)}") from error
                time.sleep(0.05)


def upgrade(connection: Connection, schema: Schema, found: str | None, location: str = "", target: str = "") -> None:
    """Run the migrations after revision ``found`` up to ``target`` (the newest), inside the connection's transaction.

    Raises:
        Unavailable: ``found`` is not a revision of this schema: a newer auditsvc wrote it.
    """
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    revisions = import_module(schema.migrations).REVISIONS
    names = list(revisions)
    if found is not None and found not in revisions:
        raise Unavailable(
            f"the database at {location} was written by a newer auditsvc "
            f"(its revision is {found}, this one knows up to {schema.head}): install the newer version"
        )
    table = Table(schema.version_table, MetaData(), Column("version_num", String(32), primary_key=True))
    table.create(connection, checkfirst=True)
    with Operations.context(MigrationContext.configure(connection)):
        for name in names[names.index(found) + 1 if found else 0 : names.index(target or schema.head) + 1]:
            revisions[name]()
    connection.execute(table.delete())
    connection.execute(table.insert(), {"version_num": target or schema.head})


def _prepare_sqlite(connection: Any, _: object) -> None:
    connection.isolation_level = None  # `_begin_sqlite` begins transactions, not the driver
    with closing(connection.cursor()) as cursor:
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options().get("auditsvc_begin", "BEGIN")
    if begin:
        connection.exec_driver_sql(begin)


def _sqlite_code(error: DatabaseError | sqlite3.DatabaseError) -> int | None:
    """SQLite's primary result code; None from another database."""
    code = getattr(getattr(error, "orig", error), "sqlite_errorcode", None)
    return None if code is None else int(code) & 0xFF


def _is_full(error: DatabaseError | sqlite3.DatabaseError) -> bool:
    """SQLite's SQLITE_FULL, or PostgreSQL's class 53 (insufficient resources: disk full)."""
    return _sqlite_code(error) == 13 or getattr(getattr(error, "orig", None), "sqlstate", None) == "53100"


def _describe(error: DatabaseError | sqlite3.DatabaseError) -> str:
    code = _sqlite_code(error)
    if code in SQLITE_ERRORS:
        return SQLITE_ERRORS[code]
    first = next(iter(str(getattr(error, "orig", error)).strip().splitlines()), "no answer")
    if isinstance(error, OperationalError) and code is None:
        return f"can't be reached: {first}; check that the server runs and that address and password are right"
    return f"failed: {first}"
