"""Background work in memory: jobs wait until somebody calls ``work_off``, and are then done at once, one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from auditsvc.errors import AuditError, Cancelled, Conflict, NotFound
from auditsvc.ports import Result, Tick
from auditsvc.records import ENDS, Fault, Job, JobEvent, JobId, JobRequest, JobState, Moment, Shard
from auditsvc.services.job_handlers import JobContext, measure_shard, run_job
from tests.fakes.clock import NOON


class MemoryRunner:
    """``ports.Runner`` in this process; ``kept`` are the results of finished steps, ``ran`` what was run."""

    def __init__(self, room: JobContext, kept: dict[str, Result] | None = None) -> None:
        self.room, self.kept = room, {} if kept is None else kept
        self.ran: list[str] = []

    def step(self, name: str, run_job: Callable[[], Result]) -> Result:
        if name not in self.kept:
            self.ran.append(name)
            self.kept[name] = run_job()
        return self.kept[name]

    def spread(self, shards: Sequence[Shard]) -> tuple[Result, ...]:
        return tuple(
            self.step(f"shard {number}", lambda shard=shard: measure_shard(shard, self.room))
            for number, shard in enumerate(shards)
        )


class MemoryJobs:
    """``ports.Jobs``; without a room jobs stay queued, or fail at once with what is ``refused``."""

    def __init__(self, room: JobContext | None = None, refused: str = "") -> None:
        self.room, self.refused = room, refused
        self.jobs: dict[JobId, Job] = {}
        self.told: dict[JobId, list[JobEvent]] = {}
        self._numbers = count(1)

    def submit(self, order: JobRequest, by: str) -> Job:
        job = Job(
            id=f"{next(self._numbers):012x}-{'0' * 16}", order=order, by=by, state="queued", asked=NOON, changed=NOON
        )
        self.jobs[job.id], self.told[job.id] = job, []
        if self.refused:
            self._change(job.id, "failed", fault=Fault(code="unavailable", message=self.refused))
        return job

    def get(self, job: JobId) -> Job:
        if job not in self.jobs:
            raise NotFound(f"no job {job}")
        return self.jobs[job]

    def page(
        self, *, kind: str = "", state: JobState | None = None, before: JobId | None = None, limit: int = 20
    ) -> tuple[Job, ...]:
        found = [
            job
            for job in sorted(self.jobs.values(), key=lambda job: job.id, reverse=True)
            if kind in ("", job.order.kind) and state in (None, job.state) and (before is None or job.id < before)
        ]
        return tuple(found[:limit])

    def cancel(self, job: JobId) -> Job:
        if self.get(job).state in ("done", "failed"):
            raise Conflict("nothing is left to stop")
        self.tell(job, "cancelled")
        return self._change(job, "cancelled")

    def retry(self, job: JobId) -> Job:
        if self.get(job).state not in ("failed", "cancelled"):
            raise Conflict("only a job that failed or was cancelled can be tried again")
        self.tell(job, "queued again")
        return self._change(job, "queued")

    def forget(self, ended_before: Moment) -> int:
        old = [job.id for job in self.jobs.values() if job.state in ENDS and job.changed < ended_before]
        for job in old:
            del self.jobs[job], self.told[job]
        return len(old)

    def events(self, job: JobId, after: int = 0) -> tuple[JobEvent, ...]:
        self.get(job)
        return tuple(event for event in self.told[job] if event.number > after)

    def tell(self, job: JobId, step: str, done: int | None = None, total: int | None = None, words: str = "") -> None:
        number = len(self.told[job]) + 1
        self.told[job].append(JobEvent(number=number, at=NOON, step=step, done=done, total=total, words=words))

    def work_off(self) -> None:
        assert self.room is not None
        for job in [job for job in self.jobs.values() if job.state == "queued"]:
            self._change(job.id, "running")
            room = self.room.for_job(_Telling(self, job.id))
            try:
                result = run_job(job.id, job.order, job.by, room, MemoryRunner(room))
                self._change(job.id, "done", result=result)
            except AuditError as error:
                self._change(job.id, "failed", fault=Fault(code=error.code, message=str(error)))

    def _change(self, job: JobId, state: JobState, **more: object) -> Job:
        fresh: dict[str, object] = {"state": state, "result": {}, "fault": None}
        self.jobs[job] = self.jobs[job].model_copy(update=fresh | more)
        return self.jobs[job]


class _Telling:
    def __init__(self, jobs: MemoryJobs, job: JobId) -> None:
        self._jobs, self._job = jobs, job

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        if self._jobs.get(self._job).state == "cancelled":
            raise Cancelled("stopped")
        self._jobs.tell(self._job, title, 0, total)
        yield lambda units=1: None
        self._jobs.tell(self._job, title, total or 1, total or 1)

    def say(self, line: str) -> None:
        self._jobs.tell(self._job, "note", words=line)
