"""The jobs' database: DBOS's tables, which DBOS migrates, and the tables for workers, job events and crashes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    literal_column,
)

from auditsvc.adapters.sql import Database, Schema

VERSION = "1"
"""The application version in DBOS: a job can be resumed by another build of auditsvc with the same version.  Increase
it when the order of a job's steps changes."""

JOBS_QUEUE, SHARDS_QUEUE = "jobs", "shards"

QUEUES = {"cpu": (JOBS_QUEUE, SHARDS_QUEUE), "gpu": ("jobs-gpu", "shards-gpu")}
"""The queues of each kind of worker, for jobs and for shards.  All shards of an audit run on the requested device:
outputs of two devices differ in their last digits, and a result must not depend on which worker was free."""

_NOW_POSTGRES = "cast(extract(epoch from clock_timestamp()) as double precision)"
_NOW_SQLITE = "(julianday('now') - 2440587.5) * 86400.0"

metadata = MetaData()

worker = Table(
    "job_worker",
    metadata,
    Column("executor_id", String(200), primary_key=True),
    Column("heartbeat", Float, nullable=False),
    Column("recovered_by", String(200), nullable=False, default=""),
)
"""``heartbeat`` is in seconds of the database's clock; ``recovered_by`` is the worker that recovers this one's jobs."""

job_event = Table(
    "job_event",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("step", String(200), nullable=False),
    Column("done", Integer),
    Column("total", Integer),
    Column("message", Text, nullable=False),
)

job_crash = Table(
    "job_crash",
    metadata,
    Column("job", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
)
"""How many workers crashed while they ran a job."""

SCHEMA = Schema(
    tables=metadata,
    head="0002",
    version_table="auditsvc_jobs_revision",
    migrations=Path(__file__).parent / "migrations",
)


class JobDatabase:
    """One jobs database."""

    def __init__(self, url: str) -> None:
        """Open it: a new one is created, an older one is upgraded.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: it can't be opened or created, there is no driver, or a newer auditsvc wrote it.
        """
        self.url = url
        logging.getLogger("dbos").setLevel(logging.ERROR)
        self._database = Database(url, SCHEMA, pool_size=2)
        self.is_sqlite = self._database.is_sqlite
        with self.translate_errors():
            DBOS.migrate(url)

    @cached_property
    def client(self) -> DBOSClient:
        """DBOS's client, which runs no workflows itself."""
        with self.translate_errors():
            return DBOSClient(system_database_url=self.url, serializer=DBOSPortableJSONSerializer())

    def close(self) -> None:
        """Close all connections."""
        if "client" in self.__dict__:
            self.client.destroy()
        self._database.close()

    @contextmanager
    def translate_errors(self) -> Iterator[None]:
        """Raise SQLAlchemy's errors, DBOS's too, as ``Conflict`` or ``Unavailable``."""
        with self._database.translate_errors():
            yield

    @contextmanager
    def read_tx(self) -> Iterator[Connection]:
        """A read transaction.  Raises ``Unavailable``."""
        with self._database.read_tx() as connection:
            yield connection

    @contextmanager
    def write_tx(self) -> Iterator[Connection]:
        """A write transaction; on PostgreSQL there may be several at the same time.

        Raises:
            Conflict: another process inserted the same row first.
            Unavailable: the database can't be read or written.
        """
        with self._database.write_tx(exclusive=False) as connection:
            yield connection

    @property
    def now(self) -> Any:
        """The database's own time, in seconds, as SQL: workers on many machines share one clock."""
        return literal_column(_NOW_SQLITE if self.is_sqlite else _NOW_POSTGRES, Float)
