"""``ports.Jobs`` on DBOS: a job is a workflow whose id is the job's."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable
from datetime import UTC, datetime

from dbos import WorkflowStatus
from dbos import error as dbos_error
from pydantic import TypeAdapter
from sqlalchemy import delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from auditsvc.adapters.jobs.job_store import QUEUES, VERSION, JobDatabase, crash_count, job_event
from auditsvc.errors import Cancelled, Conflict, NotFound
from auditsvc.records import ENDS, JOB_KINDS, AuditRequest, Fault, Job, JobEvent, JobId, JobRequest, JobState, Moment

_ORDER: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)

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

_FORGOTTEN_AT_ONCE = 200

_NEARLY_AT_ONCE = 20
"""So many jobs may be queued in the same moment without their order being mistaken at the end of a page."""

DEAD_LETTER = "given up"
"""The step of the event that says that too many workers died of a job."""


class DbosJobs:
    """Jobs as those see them who ask for them; ``ports.Jobs``."""

    def __init__(self, store: JobDatabase) -> None:
        self._store = store

    def submit(self, order: JobRequest, by: str) -> Job:
        """Queue a job; see ``ports.Jobs.submit``."""
        job = f"{int(time.time() * 1000):012x}-{secrets.token_hex(8)}"
        device = _device_of(order)
        queue, _ = QUEUES[device]
        with self._store.translated():
            self._store.client.enqueue(
                {"workflow_name": order.kind, "queue_name": queue, "workflow_id": job, "app_version": VERSION},
                order.model_dump(mode="json"),
                by,
            )
        if device == "gpu":
            self.tell(job, "queued", words="for a worker with a GPU (AUDITSVC_DEVICE=cuda auditsvc worker)")
        return self.get(job)

    def get(self, job: JobId) -> Job:
        """The job as it stands; see ``ports.Jobs.get``."""
        with self._store.translated():
            found = self._store.client.list_workflows(workflow_ids=[job], name=list(JOB_KINDS))
        if not found:
            raise NotFound(f"no job {job}")
        return self._job(found[0], self._last_words([job]))

    def page(
        self, *, kind: str = "", state: JobState | None = None, before: JobId | None = None, limit: int = 20
    ) -> tuple[Job, ...]:
        """Newest first; see ``ports.Jobs.page``."""
        found: list[Job] = []
        offset, size = 0, limit + _NEARLY_AT_ONCE
        while len(found) < size:
            with self._store.translated():
                batch = self._store.client.list_workflows(
                    name=kind or list(JOB_KINDS),
                    status=_names_of(state),
                    end_time=_soon_after(before) if before else None,
                    sort_desc=True,
                    limit=size,
                    offset=offset,
                )
            gave_up = self._last_words(item.workflow_id for item in batch if item.status == "CANCELLED")
            jobs = [self._job(item, gave_up) for item in batch if before is None or item.workflow_id < before]
            found += [job for job in jobs if state in (None, job.state)]
            offset += len(batch)
            if len(batch) < size:
                break
        return tuple(sorted(found, key=_id, reverse=True))[:limit]

    def cancel(self, job: JobId) -> Job:
        """Stop a job; see ``ports.Jobs.cancel``."""
        known = self.get(job)
        if known.state in ("done", "failed"):
            raise Conflict(f"the job {job} is {known.state}; nothing is left to stop")
        with self._store.translated():
            self._store.client.cancel_workflow(job, cancel_children=True)
        self.tell(job, "cancelled")
        return self.get(job)

    def retry(self, job: JobId) -> Job:
        """Queue a job again; see ``ports.Jobs.retry``."""
        known = self.get(job)
        if known.state not in ("failed", "cancelled"):
            raise Conflict(f"the job {job} is {known.state}; only one that failed or was cancelled can be tried again")
        with self._store.translated():
            for child in self._store.client.list_workflows(
                parent_workflow_id=job, status=["ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]
            ):
                self._again(child, QUEUES[_device_of(known.order)][1])
            (own,) = self._store.client.list_workflows(workflow_ids=[job])
            self._again(own, QUEUES[_device_of(known.order)][0])
        with self._store.writing() as connection:
            connection.execute(delete(crash_count).where(crash_count.c.job == job))
        self.tell(job, "queued again")
        return self.get(job)

    def _again(self, item: WorkflowStatus, queue: str) -> None:
        try:
            self._store.client.rewind_workflow(item.workflow_id, application_version=VERSION, queue_name=queue)
        except dbos_error.DBOSException as error:  # somebody else was faster
            raise Conflict(f"the job {item.workflow_id} runs again already") from error

    def forget(self, ended_before: Moment) -> int:
        """Remove what ended long ago; see ``ports.Jobs.forget``."""
        forgotten = 0
        while True:
            with self._store.translated():
                batch = self._store.client.list_workflows(
                    name=list(JOB_KINDS),
                    status=_ENDED,
                    completed_before=ended_before.isoformat(),
                    limit=_FORGOTTEN_AT_ONCE,
                    load_input=False,
                    load_output=False,
                )
                ids = [item.workflow_id for item in batch]
                if not ids:
                    return forgotten
                self._store.client.delete_workflows(ids, delete_children=True)
            with self._store.writing() as connection:
                connection.execute(delete(job_event).where(job_event.c.job.in_(ids)))
                connection.execute(delete(crash_count).where(crash_count.c.job.in_(ids)))
            forgotten += len(ids)

    def events(self, job: JobId, after: int = 0) -> tuple[JobEvent, ...]:
        """What it told; see ``ports.Jobs.events``."""
        rows = select(job_event).where(job_event.c.job == job, job_event.c.number > after).order_by(job_event.c.number)
        with self._store.reading() as connection:
            found = connection.execute(rows).all()
        if not found:
            self.get(job)
        return tuple(
            JobEvent(
                number=row.number,
                at=datetime.fromtimestamp(row.at, UTC),
                step=row.step,
                done=row.done,
                total=row.total,
                words=row.words,
            )
            for row in found
        )

    def tell(self, job: JobId, step: str, *, done: int | None = None, total: int | None = None, words: str = "") -> int:
        """Add an event to a job; returns its number."""
        number = (
            select(func.coalesce(func.max(job_event.c.number), 0) + 1).where(job_event.c.job == job).scalar_subquery()
        )
        row = {"job": job, "at": int(time.time()), "step": step[:200], "done": done, "total": total, "words": words}
        while True:
            try:
                with self._store.engine.connect() as connection:
                    connection = connection.execution_options(auditsvc_begin="BEGIN IMMEDIATE")
                    with connection.begin():
                        made = connection.execute(
                            insert(job_event).values(**row, number=number).returning(job_event.c.number)
                        )
                        return int(made.scalar_one())
            except IntegrityError:  # another shard of the same job was told of in the same moment
                continue

    def must_go_on(self, job: JobId) -> None:
        """Ask whether a job is still wanted.

        Raises:
            Cancelled: somebody stopped it.
        """
        with self._store.translated():
            found = self._store.client.list_workflows(
                workflow_ids=[job], status="CANCELLED", load_input=False, load_output=False
            )
        if found:
            raise Cancelled(f"the job {job} was stopped")

    def _last_words(self, jobs: Iterable[str]) -> dict[str, str]:
        """Why jobs were given up, for those that were."""
        rows = (
            select(job_event.c.job, job_event.c.step, job_event.c.words)
            .where(job_event.c.job.in_(list(jobs)))
            .order_by(job_event.c.number)
        )
        with self._store.reading() as connection:
            last = {row.job: row for row in connection.execute(rows)}
        return {job: row.words for job, row in last.items() if row.step == DEAD_LETTER}

    def _job(self, item: WorkflowStatus, gave_up: dict[str, str]) -> Job:
        given = item.input["args"] if item.input else ()
        state = _STATES[item.status]
        fault = _fault(item)
        if state == "cancelled" and item.workflow_id in gave_up:
            state, fault = "failed", Fault(code="unavailable", message=gave_up[item.workflow_id])
        return Job(
            id=item.workflow_id,
            order=_ORDER.validate_python(given[0]),
            by=given[1],
            state=state,
            asked=_moment(item.created_at),
            changed=_moment(item.updated_at),
            result=item.output if item.status == "SUCCESS" and isinstance(item.output, dict) else {},
            fault=fault,
        )


def _id(job: Job) -> str:
    return job.id


def _device_of(order: JobRequest) -> str:
    """The kind of worker that an order is for."""
    return order.device if isinstance(order, AuditRequest) else "cpu"


def _names_of(state: JobState | None) -> list[str]:
    """DBOS's names for a state; a job that was given up is kept as cancelled."""
    means = (state, "cancelled") if state == "failed" else (state,)
    return [name for name, one in _STATES.items() if state is None or one in means]


def _soon_after(job: JobId) -> str:
    """The engine stamps a job a moment after its id was drawn."""
    return datetime.fromtimestamp(int(job[:12], 16) / 1000 + 60, UTC).isoformat()


def _fault(item: WorkflowStatus) -> Fault | None:
    if item.status != "ERROR":
        return None
    code = getattr(item.error, "code", None)
    return Fault(code=str(code or "internal-error"), message=str(item.error)[:4000] or "a fault of auditsvc")


def _moment(milliseconds: int | None) -> Moment:
    return datetime.fromtimestamp((milliseconds or 0) / 1000, UTC)
