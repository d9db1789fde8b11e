"""``ports.Jobs`` on DBOS: a job is a workflow with the job's id.

The jobs' database: DBOS's tables, which DBOS migrates, and the tables for workers, job events and crashes.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, WorkflowStatus
from dbos import error as dbos_error
from pydantic import TypeAdapter
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    literal_column,
    select,
)

from auditsvc.adapters.sql import Database, Schema
from auditsvc.errors import Cancelled, Conflict, NotFound
from auditsvc.records import (
    ENDS,
    JOB_KINDS,
    AuditRequest,
    Digest,
    Job,
    JobError,
    JobEvent,
    JobId,
    JobRequest,
    JobState,
    Moment,
)

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
    migrations="auditsvc.adapters.jobs.migrations",
)


class JobDatabase(Database):
    """One jobs database."""

    one_writer = False

    def __init__(self, url: str) -> None:
        """Open it: a new one is created, an older one is upgraded.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: it can't be opened or created, there is no driver, or a newer auditsvc wrote it.
        """
        self.url = url
        logging.getLogger("dbos").setLevel(logging.ERROR)
        super().__init__(url, SCHEMA, pool_size=2)
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
        super().close()

    @property
    def now(self) -> Any:
        """The database's own time, in seconds, as SQL: workers on many machines share one clock."""
        return literal_column(_NOW_SQLITE if self.is_sqlite else _NOW_POSTGRES, Float)


_REQUEST: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)

_STATES: dict[str, JobState] = {
    "DELAYED": "queued",
    "ENQUEUED": "queued",
    "PENDING": "running",
    "SUCCESS": "done",
    "ERROR": "failed",
    "CANCELLED": "cancelled",
    "MAX_RECOVERY_ATTEMPTS_EXCEEDED": "failed",
}

_ENDED = [status for status, state in _STATES.items() if state in ENDS]

_DELETE_BATCH = 200

_PAGE_OVERLAP = 20
"""Jobs that are read beyond the end of a page, because jobs that were queued in the same moment may be out of order."""

DEAD_LETTER = "dead letter"
"""The step of the event for a job that was stopped because too many workers crashed on it."""


class DbosJobs:
    """Submits and queries jobs; implements ``ports.Jobs``."""

    def __init__(self, store: JobDatabase) -> None:
        self._store = store

    def submit(self, request: JobRequest, by: str, *, once: tuple[Moment, Digest] | None = None) -> Job:
        """Queue a job; see ``ports.Jobs.submit``."""
        moment, name = (once[0].timestamp(), once[1][7:23]) if once else (time.time(), secrets.token_hex(8))
        job = f"{int(moment * 1000):012x}-{name}"
        if once:
            with suppress(NotFound):
                return self.get(job)
        device = _device_of(request)
        queue, _ = QUEUES[device]
        with self._store.translate_errors():
            self._store.client.enqueue(
                {"workflow_name": request.kind, "queue_name": queue, "workflow_id": job, "app_version": VERSION},
                request.model_dump(mode="json"),
                by,
            )
        if device == "gpu":
            self.add_event(job, "queued", message="for a worker with a GPU (AUDITSVC_DEVICE=cuda auditsvc worker)")
        return self.get(job)

    def get(self, job: JobId) -> Job:
        """The job's current state; see ``ports.Jobs.get``."""
        with self._store.translate_errors():
            found = self._store.client.list_workflows(workflow_ids=[job], name=list(JOB_KINDS))
        if not found:
            raise NotFound(f"no job {job}")
        return self._job(found[0], self._dead_letters([job]))

    def page(
        self, *, kind: str = "", state: JobState | None = None, before: JobId | None = None, limit: int = 20
    ) -> tuple[Job, ...]:
        """Newest first; see ``ports.Jobs.page``."""
        found: list[Job] = []
        offset, size = 0, limit + _PAGE_OVERLAP
        while len(found) < size:
            with self._store.translate_errors():
                batch = self._store.client.list_workflows(
                    name=kind or list(JOB_KINDS),
                    status=_statuses_of(state),
                    end_time=_soon_after(before) if before else None,
                    sort_desc=True,
                    limit=size,
                    offset=offset,
                )
            dead = self._dead_letters(item.workflow_id for item in batch if item.status == "CANCELLED")
            jobs = [self._job(item, dead) for item in batch if before is None or item.workflow_id < before]
            found += [job for job in jobs if state in (None, job.state)]
            offset += len(batch)
            if len(batch) < size:
                break
        return tuple(sorted(found, key=_id, reverse=True))[:limit]

    def cancel(self, job: JobId) -> Job:
        """Stop a job; see ``ports.Jobs.cancel``."""
        known = self.get(job)
        if known.state in ("done", "failed"):
            raise Conflict(f"the job {job} is {known.state}; only a queued or running job can be cancelled")
        with self._store.translate_errors():
            self._store.client.cancel_workflow(job, cancel_children=True)
        self.add_event(job, "cancelled")
        return self.get(job)

    def retry(self, job: JobId) -> Job:
        """Queue a job again; see ``ports.Jobs.retry``."""
        known = self.get(job)
        if known.state not in ("failed", "cancelled"):
            raise Conflict(f"the job {job} is {known.state}; only a failed or cancelled job can be retried")
        with self._store.translate_errors():
            for child in self._store.client.list_workflows(
                parent_workflow_id=job, status=["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
            ):
                self._requeue(child, QUEUES[_device_of(known.request)][1])
            (own,) = self._store.client.list_workflows(workflow_ids=[job])
            self._requeue(own, QUEUES[_device_of(known.request)][0])
        with self._store.write_tx() as connection:
            connection.execute(delete(job_crash).where(job_crash.c.job == job))
        self.add_event(job, "queued again")
        return self.get(job)

    def _requeue(self, item: WorkflowStatus, queue: str) -> None:
        try:
            self._store.client.rewind_workflow(item.workflow_id, application_version=VERSION, queue_name=queue)
        except dbos_error.DBOSException as error:  # another request was faster
            raise Conflict(f"the job {item.workflow_id} was already retried") from error

    def delete_ended(self, ended_before: Moment) -> int:
        """Delete jobs that ended before this time; see ``ports.Jobs.delete_ended``."""
        deleted = 0
        while True:
            with self._store.translate_errors():
                batch = self._store.client.list_workflows(
                    name=list(JOB_KINDS),
                    status=_ENDED,
                    completed_before=ended_before.isoformat(),
                    limit=_DELETE_BATCH,
                    load_input=False,
                    load_output=False,
                )
                ids = [item.workflow_id for item in batch]
                if not ids:
                    return deleted
                self._store.client.delete_workflows(ids, delete_children=True)
            with self._store.write_tx() as connection:
                connection.execute(delete(job_event).where(job_event.c.job.in_(ids)))
                connection.execute(delete(job_crash).where(job_crash.c.job.in_(ids)))
            deleted += len(ids)

    def events(self, job: JobId, after: int = 0) -> tuple[JobEvent, ...]:
        """The events of a job; see ``ports.Jobs.events``."""
        columns = [column for column in job_event.columns if column.name != "job"]
        rows = select(*columns).where(job_event.c.job == job, job_event.c.number > after).order_by(job_event.c.number)
        with self._store.read_tx() as connection:
            found = connection.execute(rows).mappings().all()
        if not found:
            self.get(job)
        return tuple(JobEvent(**{**row, "at": datetime.fromtimestamp(row["at"], UTC)}) for row in found)

    def add_event(
        self, job: JobId, step: str, *, done: int | None = None, total: int | None = None, message: str = ""
    ) -> int:
        """Add an event to a job; returns its number."""
        number = (
            select(func.coalesce(func.max(job_event.c.number), 0) + 1).where(job_event.c.job == job).scalar_subquery()
        )
        row = {"job": job, "at": int(time.time()), "step": step[:200], "done": done, "total": total, "message": message}
        added = insert(job_event).values(**row, number=number).returning(job_event.c.number)
        while True:
            try:
                with self._store.write_tx() as connection:
                    return int(connection.execute(added).scalar_one())
            except Conflict:  # another shard of this job took the same number
                continue

    def raise_if_cancelled(self, job: JobId) -> None:
        """Check whether a job was cancelled.

        Raises:
            Cancelled: it was.
        """
        with self._store.translate_errors():
            found = self._store.client.list_workflows(
                workflow_ids=[job], status="CANCELLED", load_input=False, load_output=False
            )
        if found:
            raise Cancelled(f"the job {job} was cancelled")

    def _dead_letters(self, jobs: Iterable[str]) -> dict[str, str]:
        """The explanation for each of these jobs that was stopped after too many crashes."""
        rows = (
            select(job_event.c.job, job_event.c.step, job_event.c.message)
            .where(job_event.c.job.in_(list(jobs)))
            .order_by(job_event.c.number)
        )
        with self._store.read_tx() as connection:
            last = {row.job: row for row in connection.execute(rows)}
        return {job: row.message for job, row in last.items() if row.step == DEAD_LETTER}

    def _job(self, item: WorkflowStatus, dead: dict[str, str]) -> Job:
        args = item.input["args"] if item.input else ()
        state = _STATES[item.status]
        error = _error(item)
        if state == "cancelled" and item.workflow_id in dead:
            state, error = "failed", JobError(code="unavailable", message=dead[item.workflow_id])
        return Job(
            id=item.workflow_id,
            request=_REQUEST.validate_python(args[0]),
            submitted_by=args[1],
            state=state,
            submitted_at=_moment(item.created_at),
            updated_at=_moment(item.updated_at),
            result=item.output if item.status == "SUCCESS" and isinstance(item.output, dict) else {},
            error=error,
        )


def _id(job: Job) -> str:
    return job.id


def _device_of(request: JobRequest) -> str:
    """The kind of worker that a request needs."""
    return request.device if isinstance(request, AuditRequest) else "cpu"


def _statuses_of(state: JobState | None) -> list[str]:
    """DBOS's names for a state; a dead letter is stored as cancelled."""
    means = (state, "cancelled") if state == "failed" else (state,)
    return [name for name, one in _STATES.items() if state is None or one in means]


def _soon_after(job: JobId) -> str:
    """DBOS sets ``created_at`` a moment after the id was generated."""
    return datetime.fromtimestamp(int(job[:12], 16) / 1000 + 60, UTC).isoformat()


def _error(item: WorkflowStatus) -> JobError | None:
    if item.status != "ERROR":
        return None
    code = getattr(item.error, "code", None)
    return JobError(code=str(code or "internal-error"), message=str(item.error)[:4000] or "internal error")


def _moment(milliseconds: int | None) -> Moment:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
