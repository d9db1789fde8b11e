"""One job inside a worker: its steps kept by DBOS, its shards sent to the queue, its progress told."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dbos import DBOS, Queue, SetWorkflowID
from dbos import error as dbos_error

from auditsvc.adapters.jobs.asking import DbosJobs
from auditsvc.errors import AuditError, Cancelled, Unavailable
from auditsvc.ports import Result, Tick
from auditsvc.records import JobId, Shard

TRIES = 3
"""How often a step is tried while something that it needs is not there (``Unavailable``)."""

TELL_S = 1.0
"""Between two signs of life of one step, in seconds."""

POLL_S = 0.2
"""Between two looks for a shard's end, in seconds."""

ShardWorkflow = Callable[[Result], Result]


class DbosRunner:
    """``ports.Runner`` for the workflow that it is called in."""

    def __init__(self, job: JobId, jobs: DbosJobs, queue: Queue, shard: ShardWorkflow) -> None:
        self._job, self._jobs, self._queue, self._shard = job, jobs, queue, shard

    def step(self, name: str, work: Callable[[], Result]) -> Result:
        """The step's result; see ``ports.Runner.step``."""
        self._jobs.must_go_on(self._job)
        return kept_step(name, work)

    def spread(self, shards: Sequence[Shard]) -> tuple[Result, ...]:
        """Each shard is a workflow of its own; see ``ports.Runner.spread``."""
        handles = []
        for number, shard in enumerate(shards):
            with SetWorkflowID(f"{self._job}.{number}"):
                handles.append(self._queue.enqueue(self._shard, shard.model_dump(mode="json")))
        try:
            return tuple(handle.get_result(polling_interval_sec=POLL_S) for handle in handles)
        except dbos_error.DBOSAwaitedWorkflowCancelledError as error:
            raise Cancelled(f"the job {self._job} was stopped") from error


def kept_step(name: str, work: Callable[[], Result]) -> Result:
    """A step of the workflow that is running; tried again while something is ``Unavailable``."""
    try:
        return DBOS.run_step(
            {
                "name": name,
                "retries_allowed": True,
                "max_attempts": TRIES,
                "should_retry": lambda error: isinstance(error, Unavailable),
            },
            work,
        )
    except dbos_error.DBOSMaxStepRetriesExceeded as error:
        last = next((one for one in reversed(error.errors) if isinstance(one, AuditError)), error)
        raise Unavailable(f"tried {TRIES} times: {last}") from error


class JobProgress:
    """``ports.Progress`` that is told to the job's events, at most once a second for each step."""

    def __init__(self, job: JobId, jobs: DbosJobs) -> None:
        self._job, self._jobs = job, jobs

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        """A step whose ticks are counted; somebody who stops the job is heard at each sign of life."""
        self._jobs.must_go_on(self._job)
        self._jobs.tell(self._job, title, done=0, total=total)
        done, told_at = 0, time.monotonic()

        def tick(units: int = 1) -> None:
            nonlocal done, told_at
            done += units
            if time.monotonic() - told_at >= TELL_S:
                told_at = time.monotonic()
                self._jobs.must_go_on(self._job)
                self._jobs.tell(self._job, title, done=done, total=total)

        yield tick
        units = total or done or 1
        self._jobs.tell(self._job, title, done=units, total=units)

    def say(self, line: str) -> None:
        """One line that stays."""
        self._jobs.tell(self._job, "note", words=line)
