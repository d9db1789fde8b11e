"""Shards of an audit on a Ray cluster that a site runs already; the job, its steps and their results stay with DBOS.

A shard goes over as JSON and its result comes back as JSON.  Ray forgets everything with its head, and nothing is
lost by it: a shard whose result DBOS does not keep yet is sent again, and finds by content what it did before.

Nodes of the cluster need the same Python, Ray and auditsvc, its settings in their environment (``AUDITSVC_LEDGER_URL``
and ``AUDITSVC_BLOBS_URL`` that all of them reach) and the data folder.  A cluster with token authentication is entered
with Ray's own ``RAY_AUTH_MODE=token`` and ``RAY_AUTH_TOKEN``.

One job inside a worker: its steps kept by DBOS, its shards sent to the queue, its progress told.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from dbos import DBOS, Queue, SetWorkflowID
from dbos import error as dbos_error

from auditsvc.adapters.jobs.job_client import DbosJobs
from auditsvc.errors import AuditError, Cancelled, Unavailable, errors_by_code
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


LOOK_S = 1.0
"""Between two looks whether the job is still wanted, in seconds."""

Measure = Callable[[str, str], str]
"""Takes a project and a shard as JSON, and returns what ``serialize_result`` gives; nodes import it by its name."""


class RayCluster:
    """A connection to a running cluster, made when the first shard is sent."""

    def __init__(self, address: str, measure: Measure, *, gpu: bool = False, project: str = "") -> None:
        """``address`` is the head's, as ``10.0.0.1:6379``, or ``auto`` on one of its nodes."""
        self.address, self._measure, self._gpu, self._project = address, measure, gpu, project
        self._task: Any = None

    def send(self, shard: Shard) -> Any:
        """Queue a shard; Ray's reference to its result.

        Raises:
            Unavailable: there is no Ray, no cluster, or it does not let us in.
        """
        if self._task is None:
            self._task = self._connected()
        with self._reached():
            return self._task.remote(self._project, shard.model_dump_json())

    def result(self, reference: Any, seconds: float) -> str | None:
        """What the task told; None if it did not end in this time.

        Raises:
            Unavailable: its node, or the cluster, is gone.
        """
        import ray

        with self._reached():
            done, _ = ray.wait([reference], timeout=seconds)
            return str(ray.get(reference)) if done else None

    def cancel(self, references: Sequence[Any]) -> None:
        """Let what waits go, and end what runs."""
        import ray

        for reference in references:
            ray.cancel(reference, force=True)

    def _connected(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise Unavailable("AUDITSVC_RAY needs a package: pip install 'auditsvc[ray]'") from error
        here = {"_node_ip_address": "127.0.0.1"} if self.address.startswith("127.0.0.1:") else {}
        with self._reached():
            ray.init(self.address, log_to_driver=False, logging_level=logging.ERROR, ignore_reinit_error=True, **here)
        needs = {"num_cpus": 1, "num_gpus": 1 if self._gpu else 0, "max_retries": 2}
        return ray.remote(**needs)(self._measure)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        from ray.exceptions import RayError

        try:
            yield
        except (RayError, OSError, RuntimeError, ValueError) as error:
            words = next(iter(str(error).strip().splitlines()), type(error).__name__)
            hint = "" if self._task else "; is it there, and is RAY_AUTH_TOKEN its token?"
            raise Unavailable(f"the Ray cluster at {self.address} can't do it: {words}{hint}") from error


class RayRunner(DbosRunner):
    """``ports.Runner`` whose shards are measured by a Ray cluster."""

    def __init__(self, job: JobId, jobs: DbosJobs, queue: Queue, shard: ShardWorkflow, cluster: RayCluster) -> None:
        super().__init__(job, jobs, queue, shard)
        self._cluster = cluster

    def spread(self, shards: Sequence[Shard]) -> tuple[Result, ...]:
        """All shards at once; each result is a step of its own.  See ``ports.Runner.spread``."""
        if not shards:
            return ()
        sent: dict[int, Any] = {}
        try:
            with JobProgress(self._job, self._jobs).step("shards on Ray", len(shards)) as tick:
                return tuple(self._kept(number, shards, sent, tick) for number in range(len(shards)))
        except BaseException:
            self._cluster.cancel(list(sent.values()))
            raise

    def _kept(self, number: int, shards: Sequence[Shard], sent: dict[int, Any], tick: Callable[[], None]) -> Result:
        result = kept_step(f"shard {number}", partial(self._measured, number, shards, sent))
        sent.pop(number, None)
        tick()
        return result

    def _measured(self, number: int, shards: Sequence[Shard], sent: dict[int, Any]) -> Result:
        """This shard's result; the first one that has no result yet sends all behind it too."""
        for later in range(number, len(shards)):
            if later not in sent:
                sent[later] = self._cluster.send(shards[later])
        serialize_result = None
        while serialize_result is None:
            self._jobs.must_go_on(self._job)
            try:
                serialize_result = self._cluster.result(sent[number], LOOK_S)
            except Unavailable:
                del sent[number]
                raise
        return deserialize_result(serialize_result)


def serialize_result(work: Callable[[], Result]) -> str:
    """What work gave, or why it did not, in words that cross a process."""
    try:
        return json.dumps({"result": work()})
    except AuditError as error:
        return json.dumps({"code": error.code, "words": str(error)})


def deserialize_result(serialize_result: str) -> Result:
    """What ``told`` tells.  Raises the error that the work raised."""
    said: dict[str, Any] = json.loads(serialize_result)
    if "code" in said:
        raise errors_by_code()[said["code"]](said["words"])
    result: Result = said["result"]
    return result
