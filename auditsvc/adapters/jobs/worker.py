"""One worker process: takes jobs and shards from the queues of its device, with a lease, a heartbeat and recovery.

A worker's lease is a name that stays the same after a restart, held by a file lock that the kernel releases when the
process ends.  Workers that share the lease folder detect a crash at once; others detect it after
``HEARTBEAT_TIMEOUT_S`` without a heartbeat.  The first worker to detect it marks the row, queues the jobs again (a
public call of DBOS) and deletes the row; if it crashes meanwhile, another worker finds the row again.

A worker that was only frozen finds its row deleted or marked, and exits.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import IO, Any

from dbos import DBOS, DBOSPortableJSONSerializer, PortableWorkflowError, Queue
from pydantic import TypeAdapter
from sqlalchemy import Connection, delete, select, update

from auditsvc.adapters.jobs.job_store import (
    DEAD_LETTER,
    JOBS_QUEUE,
    QUEUES,
    VERSION,
    DbosJobs,
    JobDatabase,
    job_crash,
    worker,
)
from auditsvc.adapters.jobs.runners import DbosRunner, JobProgress, RayCluster, RayRunner, run_step
from auditsvc.errors import AuditError, Cancelled, Conflict, Unavailable
from auditsvc.ports import Result
from auditsvc.records import JOB_KINDS, JobRequest, Shard
from auditsvc.services.job_handlers import JobContext, measure_shard, run_job

HEARTBEAT_S = 2.0
"""Interval between heartbeats, in seconds."""

HEARTBEAT_TIMEOUT_S = 30.0
"""A worker without a heartbeat for this long counts as crashed, in seconds."""

_MAX_LEASES = 256
_POLL_S = 0.2


@dataclass
class WorkerLease:
    """A worker's name, held for the life of its process."""

    executor_id: str
    lock: IO[str]

    @classmethod
    def take(cls, folder: Path) -> WorkerLease:
        """Take the first free lease of the folder.

        Raises:
            Unavailable: the folder can't be written, or all leases are taken.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, _MAX_LEASES + 1):
                lock = _locked(folder / f"{number}.lock")
                if lock is not None:
                    return cls(f"{_name_of(folder)}/{number}", lock)
        except OSError as error:
            raise Unavailable(f"the folder {folder} can't be written: {error.strerror}") from error
        raise Unavailable(f"{_MAX_LEASES} workers already run with {folder}; stop one of them")

    def release(self) -> None:
        """Let another process take it."""
        self.lock.close()


def _name_of(folder: Path) -> str:
    """The folder's random name, chosen once: two machines may have the same host name."""
    path = folder / "name"
    if not path.exists():
        drawn = folder / f".name-{secrets.token_hex(8)}"
        drawn.write_text(secrets.token_hex(4))
        with suppress(FileExistsError):  # another process was faster
            os.link(drawn, path)
        drawn.unlink()
    return path.read_text().strip()


def _locked(path: Path) -> IO[str] | None:
    file = path.open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


class Heartbeat:
    """Records that this worker is alive, and recovers the jobs of workers that are not."""

    def __init__(self, store: JobDatabase, jobs: DbosJobs, lease: WorkerLease, folder: Path, max_crashes: int) -> None:
        self._store, self._jobs, self._lease, self._folder = store, jobs, lease, folder
        self._max_crashes = max_crashes

    def start(self) -> None:
        """The first heartbeat, after queueing what a former process with this lease left unfinished."""
        while self._recovery_in_progress():
            time.sleep(_POLL_S)
        row = {"executor_id": self._lease.executor_id, "recovered_by": ""}
        made = self._store.insert(worker).values(**row, heartbeat=self._store.now)
        alive = {"heartbeat": self._store.now, "recovered_by": ""}
        with self._store.write_tx() as connection:
            connection.execute(made.on_conflict_do_update(index_elements=["executor_id"], set_=alive))
        self._requeue_jobs_of(self._lease.executor_id)

    def _recovery_in_progress(self) -> bool:
        """Whether a live worker is recovering the jobs of a former process with this lease."""
        marked = (worker.c.executor_id == self._lease.executor_id, worker.c.recovered_by != "")
        recent = self._store.now - worker.c.heartbeat <= HEARTBEAT_TIMEOUT_S
        with self._store.read_tx() as connection:
            return connection.execute(select(worker.c.executor_id).where(*marked, recent)).first() is not None

    def beat(self) -> None:
        """Record one heartbeat, then recover the jobs of workers that have crashed.

        Raises:
            Conflict: other workers took this one for crashed; it must exit.
        """
        own = (worker.c.executor_id == self._lease.executor_id, worker.c.recovered_by == "")
        with self._store.write_tx() as connection:
            alive = connection.execute(update(worker).where(*own).values(heartbeat=self._store.now)).rowcount
        if not alive:
            raise Conflict(
                f"{self._lease.executor_id} had no heartbeat for {HEARTBEAT_TIMEOUT_S} s and was taken for dead; "
                "other workers resumed its jobs"
            )
        for executor_id in self._others():
            with self._hold_lease_of(executor_id) as crashed:
                if crashed:
                    self._recover(executor_id)

    def stop(self) -> None:
        """A clean stop: unfinished jobs are queued for other workers at once."""
        self._requeue_jobs_of(self._lease.executor_id, crashed=False)
        with self._store.write_tx() as connection:
            connection.execute(delete(worker).where(worker.c.executor_id == self._lease.executor_id))

    def _others(self) -> tuple[str, ...]:
        query = select(worker.c.executor_id).where(worker.c.executor_id != self._lease.executor_id)
        with self._store.read_tx() as connection:
            return tuple(connection.execute(query).scalars())

    @contextmanager
    def _hold_lease_of(self, executor_id: str) -> Iterator[bool]:
        """Whether a worker has crashed; meanwhile no process can take its lease if that is in this folder."""
        name, _, number = executor_id.rpartition("/")
        if name != self._lease.executor_id.rpartition("/")[0]:
            yield self._silence_s(executor_id) > HEARTBEAT_TIMEOUT_S
            return
        lock = _locked(self._folder / f"{number}.lock")
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.close()

    def _silence_s(self, executor_id: str) -> float:
        """Seconds since the last heartbeat; 0 for a worker whose row is gone."""
        query = select((self._store.now - worker.c.heartbeat).label("age")).where(worker.c.executor_id == executor_id)
        with self._store.read_tx() as connection:
            return float(connection.execute(query).scalar() or 0)

    def _recover(self, executor_id: str) -> None:
        """Mark the row, queue the jobs again, delete the row.  An old mark is that of a worker that crashed too."""
        mine = worker.c.recovered_by == self._lease.executor_id
        with self._store.write_tx() as connection:
            if not self._mark(connection, executor_id):
                return
        self._requeue_jobs_of(executor_id)
        with self._store.write_tx() as connection:
            connection.execute(delete(worker).where(worker.c.executor_id == executor_id, mine))

    def _mark(self, connection: Connection, executor_id: str) -> bool:
        free = (worker.c.recovered_by == "") | (self._store.now - worker.c.heartbeat > HEARTBEAT_TIMEOUT_S)
        marked = update(worker).where(worker.c.executor_id == executor_id, free)
        values = {"recovered_by": self._lease.executor_id, "heartbeat": self._store.now}
        return connection.execute(marked.values(**values)).rowcount == 1

    def _requeue_jobs_of(self, executor_id: str, *, crashed: bool = True) -> None:
        with self._store.translate_errors():
            unfinished = self._store.client.list_workflows(
                status="PENDING", executor_id=executor_id, load_input=False, load_output=False
            )
        for item in unfinished:
            job = item.workflow_id.partition(".")[0]
            if crashed and self._count_crash(job) > self._max_crashes:
                self._dead_letter(job)
                continue
            with self._store.translate_errors():
                self._store.client.resume_workflow(item.workflow_id, queue_name=item.queue_name or JOBS_QUEUE)
            if crashed:
                self._jobs.add_event(job, "recovered", message=f"the worker {executor_id} crashed; another one resumes")

    def _count_crash(self, job: str) -> int:
        made = self._store.insert(job_crash).values(job=job, count=1)
        counted = made.on_conflict_do_update(index_elements=["job"], set_={"count": job_crash.c.count + 1})
        with self._store.write_tx() as connection:
            return int(connection.execute(counted.returning(job_crash.c.count)).scalar_one())

    def _dead_letter(self, job: str) -> None:
        with self._store.translate_errors():
            self._store.client.cancel_workflow(job, cancel_children=True)
        message = f"more than {self._max_crashes} workers crashed on this job; check its memory and disk, then retry it"
        self._jobs.add_event(job, DEAD_LETTER, message=message)


CONCURRENT_JOBS = 2
"""Jobs in one worker: a release need not wait for an audit, whose shards run one at a time anyway."""

POLL_S = 0.2
"""Interval for polling a queue, in seconds."""

GRACE_S = 20
"""How long running steps may take at shutdown, in seconds; unfinished ones are repeated by another worker."""

CLEANUP_INTERVAL_S = 3600
"""Interval for deleting expired jobs, in seconds."""

EXIT_LEASE_LOST = 70
"""The exit code of a worker that was frozen for so long that others recovered its jobs."""


class _UnexpectedErrors(logging.Filter):
    """Passes internal errors of DBOS and auditsvc; an expected error is in the job's own result."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether to log this record."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, AuditError | PortableWorkflowError)


_REQUEST: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)
_log = logging.getLogger("auditsvc.worker")


class Worker:
    """A process that runs jobs from the queues until it is stopped."""

    def __init__(
        self,
        store: JobDatabase,
        context: JobContext,
        leases: Path,
        max_crashes: int,
        *,
        cluster: RayCluster | None = None,
        keep_days: int = 0,
    ) -> None:
        """``leases`` is a folder that the workers of one machine share; ``cluster`` runs the shards, if given.

        A job on which more than ``max_crashes`` workers crashed is not resumed again.  Jobs that ended more than
        ``keep_days`` days ago are deleted; 0 keeps them forever.
        """
        self._store, self._context, self._cluster = store, context, cluster
        self._keep = timedelta(days=keep_days)
        self._jobs = DbosJobs(store)
        self._lease = WorkerLease.take(leases)
        self._heartbeat = Heartbeat(store, self._jobs, self._lease, leases, max_crashes)
        self._stop = threading.Event()
        self._parent = 0
        self._shards: Queue | None = None
        self._shard: Callable[[Result], Result] = self._unregistered

    @property
    def name(self) -> str:
        """The lease's name: the same after a restart."""
        return self._lease.executor_id

    def start(self) -> None:
        """Queue what a former process with this lease left unfinished, then take work.

        Raises:
            Unavailable: the database can't be used.
        """
        self._heartbeat.start()
        DBOS(
            config={
                "name": "auditsvc",
                "system_database_url": self._store.url,
                "executor_id": self._lease.executor_id,
                "application_version": VERSION,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "ERROR",
                "notification_listener_polling_interval_sec": 0.1,
            }
        )
        logging.getLogger("dbos").addFilter(_UnexpectedErrors())
        self._register()
        jobs, shards = QUEUES["cpu" if self._context.ctx.device == "cpu" else "gpu"]
        queues = {jobs: CONCURRENT_JOBS, shards: 1}
        DBOS.listen_queues(list(queues))
        with self._store.translate_errors():
            for name, concurrency in queues.items():
                self._store.client.register_queue(name, worker_concurrency=concurrency, polling_interval_sec=POLL_S)
        DBOS.launch()
        self._shards = DBOS.retrieve_queue(shards)
        threading.Thread(target=self._run_heartbeat, name="heartbeat", daemon=True).start()

    def run(self, parent: int = 0) -> None:
        """Run until SIGTERM or SIGINT, or until the process ``parent`` is gone; then exit the process.

        Running steps have ``GRACE_S`` seconds to finish.  Those that still run then are queued for other workers
        already, so the exit does not wait for them.
        """
        self._parent = parent
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        with private_tempdir(self._lease.executor_id):
            self.start()
            self._stop.wait()
            self.end()
        os._exit(0)

    def end(self, grace_s: int = GRACE_S) -> None:
        """Stop taking work, wait for running steps, and queue the rest for other workers."""
        self._stop.set()
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=grace_s)
        self._heartbeat.stop()
        self._lease.release()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        self._stop.set()

    def _run_heartbeat(self) -> None:
        cleaned_at = float("-inf")
        while not self._stop.wait(HEARTBEAT_S):
            if self._parent and os.getppid() != self._parent:
                self._stop.set()
                return
            try:
                self._heartbeat.beat()
                if self._keep and time.monotonic() - cleaned_at > CLEANUP_INTERVAL_S:
                    cleaned_at = time.monotonic()
                    self._jobs.delete_ended(self._context.ctx.clock.now() - self._keep)
            except Conflict as error:
                _log.error("%s", error)
                os._exit(EXIT_LEASE_LOST)
            except Unavailable as error:
                _log.warning("heartbeat failed: %s", error)

    def _register(self) -> None:
        """Register a workflow for each kind of job, and one for shards."""
        for kind in JOB_KINDS:
            DBOS.workflow(name=kind)(self._workflow())
        self._shard = DBOS.workflow(name="shard")(self._shard_workflow())

    def _workflow(self) -> Callable[[dict[str, Any], str], Result]:
        def job(request: dict[str, Any], by: str) -> Result:
            own_id = DBOS.workflow_id or ""
            context = self._context.for_job(JobProgress(own_id, self._jobs))
            job_request = _REQUEST.validate_python(request)
            return _portable(lambda: run_job(own_id, job_request, by, context, self._runner(own_id)))

        return job

    def _runner(self, job: str) -> DbosRunner:
        if self._shards is None:
            raise Unavailable("the worker has not been started")
        if self._cluster:
            return RayRunner(job, self._jobs, self._shards, self._shard, self._cluster)
        return DbosRunner(job, self._jobs, self._shards, self._shard)

    def _shard_workflow(self) -> Callable[[Result], Result]:
        def shard(fields: Result) -> Result:
            found = Shard.model_validate(fields)
            context = self._context.for_job(JobProgress(found.job, self._jobs))
            return _portable(lambda: run_step("measure", lambda: measure_shard(found, context)))

        return shard

    def _unregistered(self, _: Result) -> Result:
        raise Unavailable("the worker has not been started")


@contextmanager
def private_tempdir(executor_id: str) -> Iterator[Path]:
    """Use an empty folder of its own for the temporary files of this process.

    Files that a killed process with the same lease left there are deleted first.

    Raises:
        Unavailable: it can't be created.
    """
    before = tempfile.gettempdir()
    folder = Path(before) / f"auditsvc-{executor_id.replace('/', '-')}"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise Unavailable(f"{folder} can't be created: {error.strerror}; set TMPDIR to another folder") from error
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _portable(run_job: Callable[[], Result]) -> Result:
    """The result; an error is raised in a form that any version of auditsvc can read."""
    try:
        return run_job()
    except Cancelled:
        raise
    except AuditError as error:
        raise PortableWorkflowError(str(error), type(error).__name__, error.code) from error
