"""Who is alive, and what becomes of the jobs of the dead.

Every worker has a slot: a name that stays the same when it is started again, held by a lock on a file that the
kernel lets go when the process dies, however it dies.  Workers that share the folder of the locks see a death at
once; the others by the heart: ``DEAD_S`` without a beat.  Whoever sees it first marks the row, puts the dead one's
jobs back into their queues (a public call of DBOS) and takes the row away; if it dies over that, the row is found
again.

A worker that was taken for dead and is not (it was frozen) finds its row gone or marked, and ends itself.
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
from typing import IO

from sqlalchemy import Connection, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite

from auditsvc.adapters.jobs.job_client import DEAD_LETTER, DbosJobs
from auditsvc.adapters.jobs.job_store import JOBS_QUEUE, JobDatabase, crash_count, worker
from auditsvc.errors import Conflict, Unavailable

BEAT_S = 2.0
"""Between two beats, in seconds."""

DEAD_S = 30.0
"""Without a beat for so long a worker is dead, in seconds."""

_MOST_SLOTS = 256
_SOON_S = 0.2


@dataclass
class WorkerLease:
    """A worker's name, held as long as the process lives."""

    executor: str
    lock: IO[str]

    @classmethod
    def take(cls, folder: Path) -> WorkerLease:
        """The first free slot of the folder.

        Raises:
            Unavailable: the folder can't be written, or all slots are taken.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(1, _MOST_SLOTS + 1):
                lock = _locked(folder / f"{number}.lock")
                if lock is not None:
                    return cls(f"{_name_of(folder)}/{number}", lock)
        except OSError as error:
            raise Unavailable(f"the folder {folder} can't be written: {error.strerror}") from error
        raise Unavailable(f"{_MOST_SLOTS} workers run on {folder} already")

    def release(self) -> None:
        """Let somebody else have it."""
        self.lock.close()


def _name_of(folder: Path) -> str:
    """The folder's own name, drawn once: two machines of one host name must not be taken for each other."""
    path = folder / "name"
    if not path.exists():
        drawn = folder / f".name-{secrets.token_hex(8)}"
        drawn.write_text(secrets.token_hex(4))
        with suppress(FileExistsError):  # somebody else was faster
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
    """Tells that this worker lives, and buries those that don't."""

    def __init__(self, store: JobDatabase, jobs: DbosJobs, slot: WorkerLease, folder: Path, most_deaths: int) -> None:
        self._store, self._jobs, self._slot, self._folder = store, jobs, slot, folder
        self._most_deaths = most_deaths

    def start(self) -> None:
        """The first beat; what a former process of this slot left undone is put back first."""
        while self._is_being_buried():
            time.sleep(_SOON_S)
        row = {"executor": self._slot.executor, "reaper": ""}
        made = (sqlite if self._store.is_sqlite else postgresql).insert(worker).values(**row, beat=self._store.now)
        with self._store.writing() as connection:
            connection.execute(
                made.on_conflict_do_update(index_elements=["executor"], set_={"beat": self._store.now, "reaper": ""})
            )
        self._put_back(self._slot.executor)

    def _is_being_buried(self) -> bool:
        """Whether somebody is at the jobs of a former process of this slot; a reaper that is dead itself is not."""
        marked = (worker.c.executor == self._slot.executor, worker.c.reaper != "")
        query = select(worker.c.executor).where(*marked, self._store.now - worker.c.beat <= DEAD_S)
        with self._store.reading() as connection:
            return connection.execute(query).first() is not None

    def beat(self) -> None:
        """One beat, and a look at the others.

        Raises:
            Conflict: others took this worker for dead; it must end.
        """
        own = (worker.c.executor == self._slot.executor, worker.c.reaper == "")
        with self._store.writing() as connection:
            lives = connection.execute(update(worker).where(*own).values(beat=self._store.now)).rowcount
        if not lives:
            raise Conflict(f"{self._slot.executor} did not beat for {DEAD_S} s and was taken for dead")
        for executor in self._others():
            with self._held(executor) as is_dead:
                if is_dead:
                    self._bury(executor)

    def stop(self) -> None:
        """A good end: what is not finished goes to others at once."""
        self._put_back(self._slot.executor, died=False)
        with self._store.writing() as connection:
            connection.execute(delete(worker).where(worker.c.executor == self._slot.executor))

    def _others(self) -> tuple[str, ...]:
        with self._store.reading() as connection:
            rows = connection.execute(select(worker.c.executor).where(worker.c.executor != self._slot.executor))
            return tuple(row.executor for row in rows)

    @contextmanager
    def _held(self, executor: str) -> Iterator[bool]:
        """Whether a worker is dead; while this lasts, nobody can take its slot if it is one of our folder."""
        name, _, number = executor.rpartition("/")
        if name != self._slot.executor.rpartition("/")[0]:
            yield self._age(executor) > DEAD_S
            return
        lock = _locked(self._folder / f"{number}.lock")
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.close()

    def _age(self, executor: str) -> float:
        """Seconds since the last beat; 0 for one who is buried already."""
        with self._store.reading() as connection:
            query = select((self._store.now - worker.c.beat).label("age")).where(worker.c.executor == executor)
            return float(connection.execute(query).scalar() or 0)

    def _bury(self, executor: str) -> None:
        """Mark, put back, take away; a mark that is as old as a death is a dead reaper's."""
        mine = worker.c.reaper == self._slot.executor
        with self._store.writing() as connection:
            if not self._mark(connection, executor):
                return
        self._put_back(executor)
        with self._store.writing() as connection:
            connection.execute(delete(worker).where(worker.c.executor == executor, mine))

    def _mark(self, connection: Connection, executor: str) -> bool:
        free = (worker.c.reaper == "") | (self._store.now - worker.c.beat > DEAD_S)
        marked = update(worker).where(worker.c.executor == executor, free)
        values = {"reaper": self._slot.executor, "beat": self._store.now}
        return connection.execute(marked.values(**values)).rowcount == 1

    def _put_back(self, executor: str, *, died: bool = True) -> None:
        with self._store.translated():
            left = self._store.client.list_workflows(
                status="PENDING", executor_id=executor, load_input=False, load_output=False
            )
        for item in left:
            job = item.workflow_id.partition(".")[0]
            if died and self._count_death(job) > self._most_deaths:
                self._give_up(job)
                continue
            with self._store.translated():
                self._store.client.resume_workflow(item.workflow_id, queue_name=item.queue_name or JOBS_QUEUE)
            if died:
                self._jobs.tell(job, "taken over", words=f"the worker {executor} died; somebody else goes on")

    def _count_death(self, job: str) -> int:
        made = (sqlite if self._store.is_sqlite else postgresql).insert(crash_count).values(job=job, count=1)
        counted = made.on_conflict_do_update(index_elements=["job"], set_={"count": crash_count.c.count + 1})
        with self._store.writing() as connection:
            return int(connection.execute(counted.returning(crash_count.c.count)).scalar_one())

    def _give_up(self, job: str) -> None:
        with self._store.translated():
            self._store.client.cancel_workflow(job, cancel_children=True)
        words = f"more than {self._most_deaths} workers died over this job; look at what it needs, then try it again"
        self._jobs.tell(job, DEAD_LETTER, words=words)
