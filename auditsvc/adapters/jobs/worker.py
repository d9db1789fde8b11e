"""One worker process: takes jobs and shards from the queues of its device."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import FrameType
from typing import Any

from dbos import DBOS, DBOSPortableJSONSerializer, PortableWorkflowError, Queue
from pydantic import TypeAdapter

from auditsvc.adapters.jobs.job_client import DbosJobs
from auditsvc.adapters.jobs.job_store import QUEUES, VERSION, JobDatabase
from auditsvc.adapters.jobs.liveness import HEARTBEAT_S, Heartbeat, WorkerLease
from auditsvc.adapters.jobs.runners import DbosRunner, JobProgress, RayCluster, RayRunner, run_step
from auditsvc.errors import AuditError, Cancelled, Conflict, Unavailable
from auditsvc.ports import Result
from auditsvc.records import JOB_KINDS, JobRequest, Shard
from auditsvc.services.job_handlers import JobContext, measure_shard, run_job

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

    def run(self) -> None:
        """Run until SIGTERM or SIGINT, give running steps ``GRACE_S`` seconds to finish, and exit the process.

        Steps that still run then are queued for other workers already, so the exit does not wait for them.
        """
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
