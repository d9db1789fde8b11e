"""Leases and heartbeats of workers, and recovery of the jobs of crashed ones.

Every worker holds a lease: a name that stays the same after a restart, held by a lock on a file that the kernel
releases when the process ends, however it ends.  Workers that share the lease folder detect a crash at once; others
detect it by the heartbeat, after ``HEARTBEAT_TIMEOUT_S`` without one.  The first worker to detect it marks the row,
queues the jobs again (a public call of DBOS) and deletes the row; if it crashes itself meanwhile, another one finds the
row again.

A worker that was only frozen finds its row deleted or marked, and exits.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlalchemy import Connection, Table, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from auditsvc.adapters.jobs.job_client import DEAD_LETTER, DbosJobs
from auditsvc.adapters.jobs.job_store import JOBS_QUEUE, JobDatabase, job_crash, worker
from auditsvc.errors import Conflict, Unavailable

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
        made = self._insert(worker).values(**row, heartbeat=self._store.now)
        alive = {"heartbeat": self._store.now, "recovered_by": ""}
        with self._store.write_tx() as connection:
            connection.execute(made.on_conflict_do_update(index_elements=["executor_id"], set_=alive))
        self._requeue_jobs_of(self._lease.executor_id)

    def _insert(self, table: Table) -> Any:
        return (sqlite if self._store.is_sqlite else postgresql).insert(table)

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
        made = self._insert(job_crash).values(job=job, count=1)
        counted = made.on_conflict_do_update(index_elements=["job"], set_={"count": job_crash.c.count + 1})
        with self._store.write_tx() as connection:
            return int(connection.execute(counted.returning(job_crash.c.count)).scalar_one())

    def _dead_letter(self, job: str) -> None:
        with self._store.translate_errors():
            self._store.client.cancel_workflow(job, cancel_children=True)
        message = f"more than {self._max_crashes} workers crashed on this job; check its memory and disk, then retry it"
        self._jobs.add_event(job, DEAD_LETTER, message=message)
