"""The jobs' database: opened, made where it is missing, and foreign errors turned into ours."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    create_engine,
    event,
    literal_column,
    make_url,
    text,
)
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from auditsvc.errors import InvalidInput, Unavailable

VERSION = "1"
"""Jobs of one version go on in another build of auditsvc as long as this stays; it goes up with the steps' order."""

JOBS_QUEUE, SHARDS_QUEUE = "jobs", "shards"

QUEUES = {"cpu": (JOBS_QUEUE, SHARDS_QUEUE), "gpu": ("jobs-gpu", "shards-gpu")}
"""For each kind of worker its queues.  An audit stays on the kind that it asked for, to the last shard: answers of two
devices differ in their last digits, and results must not depend on who was free."""

_MAKING = 0x6175646A6F6273
"""The key of PostgreSQL's advisory lock while tables are made: the letters ``audjobs``."""

_NOW_POSTGRES = "cast(extract(epoch from clock_timestamp()) as double precision)"
_NOW_SQLITE = "(julianday('now') - 2440587.5) * 86400.0"

metadata = MetaData()

worker = Table(
    "auditsvc_worker",
    metadata,
    Column("executor", String(200), primary_key=True),
    Column("beat", Float, nullable=False),
    Column("reaper", String(200), nullable=False, default=""),
)
"""``beat`` is when it last told that it lives, in seconds of the database's clock; ``reaper`` who buries it."""

job_event = Table(
    "auditsvc_job_event",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("step", String(200), nullable=False),
    Column("done", Integer),
    Column("total", Integer),
    Column("words", Text, nullable=False),
)

crash_count = Table(
    "auditsvc_job_death",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
)
"""How many workers died while they did this job."""


class JobDatabase:
    """One jobs database."""

    def __init__(self, url: str) -> None:
        """Open it; a new one is made, with DBOS's tables and ours.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: it can't be opened or made, or there is no driver.
        """
        self.url = url
        logging.getLogger("dbos").setLevel(logging.ERROR)
        try:
            address = make_url(url)
            self.is_sqlite = address.get_backend_name() == "sqlite"
            if self.is_sqlite:
                _use_wal(Path(str(address.database)))
            self.engine = _engine(url, self.is_sqlite)
        except ArgumentError as error:
            raise InvalidInput(f"not a database URL: {url!r}; try sqlite:///auditsvc-store/jobs.db") from error
        except (ImportError, OSError, sqlite3.Error) as error:
            raise Unavailable(f"the jobs' database can't be opened: {error}") from error
        with self.translated():
            self._make()

    @cached_property
    def client(self) -> DBOSClient:
        """DBOS as somebody sees it who runs nothing."""
        with self.translated():
            return DBOSClient(system_database_url=self.url, serializer=DBOSPortableJSONSerializer())

    def close(self) -> None:
        """Give the connections back."""
        if "client" in self.__dict__:
            self.client.destroy()
        self.engine.dispose()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Errors of the database as ours.

        Raises:
            Unavailable: it can't be read or written.
        """
        try:
            yield
        except SQLAlchemyError as error:
            words = str(getattr(error, "orig", error)).strip().split("\n")[0]
            raise Unavailable(f"the jobs' database can't be read or written: {words}") from error

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """One look at the database."""
        with self.translated(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction of our own."""
        with self.translated(), self.engine.connect() as connection:
            connection = connection.execution_options(auditsvc_begin="BEGIN IMMEDIATE")
            with connection.begin():
                yield connection

    @property
    def now(self) -> Any:
        """The database's own time, in seconds: workers on many machines share one clock."""
        return literal_column(_NOW_SQLITE if self.is_sqlite else _NOW_POSTGRES, Float)

    def _make(self) -> None:
        """DBOS's tables and ours; two processes that start at once wait for each other."""
        with self.writing() as connection:
            if not self.is_sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MAKING})
            metadata.create_all(connection)
        DBOS.migrate(self.url)


def _engine(url: str, is_sqlite: bool) -> Engine:
    if not is_sqlite:
        return create_engine(url, pool_pre_ping=True, pool_size=2)
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("auditsvc_begin", "BEGIN"))

    return engine


def _use_wal(path: Path) -> None:
    """Readers and the one writer don't wait for each other; the file remembers it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
