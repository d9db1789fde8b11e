"""Jobs in memory: they stay queued until ``work_off`` is called, which runs them one by one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count

from auditsvc.errors import AuditError, Cancelled, Conflict, NotFound
from auditsvc.ports import Result, Tick
from auditsvc.records import ENDS, Job, JobError, JobEvent, JobId, JobRequest, JobState, Moment, Shard
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
    """``ports.Jobs``; without a context jobs stay queued, or fail at once with the message ``refused``."""

    def __init__(self, room: JobContext | None = None, refused: str = "") -> None:
        self.room, self.refused = room, refused
        self.jobs: dict[JobId, Job] = {}
        self.added: dict[JobId, list[JobEvent]] = {}
        self._numbers = count(1)

    def submit(self, request: JobRequest, by: str, *, once: tuple[Moment, str] | None = None) -> Job:
        name = f"{int(once[0].timestamp() * 1000):012x}-{once[1][7:23]}" if once else ""
        if name in self.jobs:
            return self.jobs[name]
        job = Job(
            id=name or f"{next(self._numbers):012x}-{'0' * 16}",
            request=request,
            submitted_by=by,
            state="queued",
            submitted_at=NOON,
            updated_at=NOON,
        )
        self.jobs[job.id], self.added[job.id] = job, []
        if self.refused:
            self._change(job.id, "failed", error=JobError(code="unavailable", message=self.refused))
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
            if kind in ("", job.request.kind) and state in (None, job.state) and (before is None or job.id < before)
        ]
        return tuple(found[:limit])

    def cancel(self, job: JobId) -> Job:
        if self.get(job).state in ("done", "failed"):
            raise Conflict("nothing is left to stop")
        self.add_event(job, "cancelled")
        return self._change(job, "cancelled")

    def retry(self, job: JobId) -> Job:
        if self.get(job).state not in ("failed", "cancelled"):
            raise Conflict("only a job that failed or was cancelled can be tried again")
        self.add_event(job, "queued again")
        return self._change(job, "queued")

    def delete_ended(self, ended_before: Moment) -> int:
        old = [job.id for job in self.jobs.values() if job.state in ENDS and job.updated_at < ended_before]
        for job in old:
            del self.jobs[job], self.added[job]
        return len(old)

    def events(self, job: JobId, after: int = 0) -> tuple[JobEvent, ...]:
        self.get(job)
        return tuple(event for event in self.added[job] if event.number > after)

    def add_event(
        self, job: JobId, step: str, done: int | None = None, total: int | None = None, message: str = ""
    ) -> None:
        number = len(self.added[job]) + 1
        self.added[job].append(JobEvent(number=number, at=NOON, step=step, done=done, total=total, message=message))

    def work_off(self) -> None:
        assert self.room is not None
        for job in [job for job in self.jobs.values() if job.state == "queued"]:
            self._change(job.id, "running")
            room = self.room.for_job(_Progress(self, job.id))
            try:
                result = run_job(job.id, job.request, job.submitted_by, room, MemoryRunner(room))
                self._change(job.id, "done", result=result)
            except AuditError as error:
                self._change(job.id, "failed", error=JobError(code=error.code, message=str(error)))

    def _change(self, job: JobId, state: JobState, **more: object) -> Job:
        fresh: dict[str, object] = {"state": state, "result": {}, "error": None}
        self.jobs[job] = self.jobs[job].model_copy(update=fresh | more)
        return self.jobs[job]


class _Progress:
    def __init__(self, jobs: MemoryJobs, job: JobId) -> None:
        self._jobs, self._job = jobs, job

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        if self._jobs.get(self._job).state == "cancelled":
            raise Cancelled("stopped")
        self._jobs.add_event(self._job, title, 0, total)
        yield lambda units=1: None
        self._jobs.add_event(self._job, title, total or 1, total or 1)

    def say(self, line: str) -> None:
        self._jobs.add_event(self._job, "note", message=line)
