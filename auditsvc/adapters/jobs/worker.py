"""One worker process: takes jobs and shards from the queues, one of each kind of work at a time."""

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
from auditsvc.adapters.jobs.liveness import BEAT_S, Heartbeat, WorkerLease
from auditsvc.adapters.jobs.runners import DbosRunner, JobProgress, RayCluster, RayRunner, kept_step
from auditsvc.errors import AuditError, Cancelled, Conflict, Unavailable
from auditsvc.ports import Result
from auditsvc.records import JOB_KINDS, JobRequest, Shard
from auditsvc.services.job_handlers import JobContext, measure_shard, run_job

JOBS_AT_ONCE = 2
"""Jobs in one worker: a release does not wait behind an audit, whose shards are measured one at a time anyway."""

POLL_S = 0.2
"""Between two looks into a queue, in seconds."""

GRACE_S = 20
"""How long steps that run may take at the end, in seconds; what is not finished then is done again elsewhere."""

TIDY_S = 3600
"""Between two looks for jobs that are old enough to be forgotten, in seconds."""

TAKEN_FOR_DEAD = 70
"""The exit code of a worker that was frozen so long that others took over its jobs."""


class _Unexpected(logging.Filter):
    """Lets a fault of the engine or of ours through; a job that failed for a reason says so itself."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is to be seen."""
        error = record.exc_info[1] if record.exc_info else None
        return not isinstance(error, AuditError | PortableWorkflowError)


_ORDER: TypeAdapter[JobRequest] = TypeAdapter(JobRequest)
_log = logging.getLogger("auditsvc.worker")


class Worker:
    """A process that works off the queues until it is told to stop."""

    def __init__(
        self,
        store: JobDatabase,
        room: JobContext,
        slots: Path,
        most_deaths: int,
        *,
        cluster: RayCluster | None = None,
        keep_days: int = 0,
    ) -> None:
        """``slots`` is a folder that the workers of one machine share; ``cluster`` measures the shards, if given.

        Jobs that ended more than ``keep_days`` ago are forgotten; 0 keeps them for ever.
        """
        self._store, self._room, self._cluster = store, room, cluster
        self._keep = timedelta(days=keep_days)
        self._jobs = DbosJobs(store)
        self._slot = WorkerLease.take(slots)
        self._heart = Heartbeat(store, self._jobs, self._slot, slots, most_deaths)
        self._stop = threading.Event()
        self._shards: Queue | None = None
        self._shard: Callable[[Result], Result] = self._unregistered

    @property
    def name(self) -> str:
        """The slot's name: the same after a restart."""
        return self._slot.executor

    def start(self) -> None:
        """Put back what this slot left undone, then take work.

        Raises:
            Unavailable: the database can't be used.
        """
        self._heart.start()
        DBOS(
            config={
                "name": "auditsvc",
                "system_database_url": self._store.url,
                "executor_id": self._slot.executor,
                "application_version": VERSION,
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "ERROR",
                "notification_listener_polling_interval_sec": 0.1,
            }
        )
        logging.getLogger("dbos").addFilter(_Unexpected())
        self._register()
        jobs, shards = QUEUES["cpu" if self._room.ctx.device == "cpu" else "gpu"]
        queues = {jobs: JOBS_AT_ONCE, shards: 1}
        DBOS.listen_queues(list(queues))
        with self._store.translated():
            for name, at_once in queues.items():
                self._store.client.register_queue(name, worker_concurrency=at_once, polling_interval_sec=POLL_S)
        DBOS.launch()
        self._shards = DBOS.retrieve_queue(shards)
        threading.Thread(target=self._live, name="heart", daemon=True).start()

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; then finish the running steps if they are quick, and leave the process.

        What still runs then belongs to others already, so nothing waits for it.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told_to_stop)
        with own_scratch(self._slot.executor):
            self.start()
            self._stop.wait()
            self.end()
        os._exit(0)

    def end(self, grace_s: int = GRACE_S) -> None:
        """Stop taking work, wait a little, and leave the rest to others."""
        self._stop.set()
        DBOS.destroy(destroy_registry=True, workflow_completion_timeout_sec=grace_s)
        self._heart.stop()
        self._slot.release()

    def _told_to_stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        self._stop.set()

    def _live(self) -> None:
        tidied = float("-inf")
        while not self._stop.wait(BEAT_S):
            try:
                self._heart.beat()
                if self._keep and time.monotonic() - tidied > TIDY_S:
                    tidied = time.monotonic()
                    self._jobs.forget(self._room.ctx.clock.now() - self._keep)
            except Conflict as error:
                _log.error("%s", error)
                os._exit(TAKEN_FOR_DEAD)
            except Unavailable as error:
                _log.warning("no beat: %s", error)

    def _register(self) -> None:
        """Each kind of job is a workflow by that name; a shard is one too."""
        for kind in JOB_KINDS:
            DBOS.workflow(name=kind)(self._workflow())
        self._shard = DBOS.workflow(name="shard")(self._shard_workflow())

    def _workflow(self) -> Callable[[dict[str, Any], str], Result]:
        def job(order: dict[str, Any], by: str) -> Result:
            found = DBOS.workflow_id or ""
            room = self._room.for_job(JobProgress(found, self._jobs))
            return _portable(lambda: run_job(found, _ORDER.validate_python(order), by, room, self._runner(found)))

        return job

    def _runner(self, job: str) -> DbosRunner:
        if self._shards is None:
            raise Unavailable("the worker has not been started")
        if self._cluster:
            return RayRunner(job, self._jobs, self._shards, self._shard, self._cluster)
        return DbosRunner(job, self._jobs, self._shards, self._shard)

    def _shard_workflow(self) -> Callable[[Result], Result]:
        def shard(given: Result) -> Result:
            found = Shard.model_validate(given)
            room = self._room.for_job(JobProgress(found.job, self._jobs))
            return _portable(lambda: kept_step("measure", lambda: measure_shard(found, room)))

        return shard

    def _unregistered(self, _: Result) -> Result:
        raise Unavailable("the worker has not been started")


@contextmanager
def own_scratch(executor: str) -> Iterator[Path]:
    """A place of its own for the temporary files of this process, empty at first.

    Nobody else has this slot, so what lies there was left by a former process of it that was killed.

    Raises:
        Unavailable: it can't be made.
    """
    before = tempfile.gettempdir()
    folder = Path(before) / f"auditsvc-{executor.replace('/', '-')}"
    try:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise Unavailable(f"{folder} can't be made: {error.strerror}; set TMPDIR to another place") from error
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)


def _portable(run_job: Callable[[], Result]) -> Result:
    """The result, or our error in the words that any version can read again."""
    try:
        return run_job()
    except Cancelled:
        raise
    except AuditError as error:
        raise PortableWorkflowError(str(error), type(error).__name__, error.code) from error
