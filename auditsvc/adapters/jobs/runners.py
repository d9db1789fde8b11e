"""Runs one job inside a worker: its steps are stored by DBOS, its shards go to a queue or to a Ray cluster.

``DbosRunner`` queues each shard as a workflow of its own.  ``RayRunner`` sends shards to an existing Ray cluster, while
the job, its steps and their results stay in DBOS.  A shard and its result cross the network as JSON.  If the cluster
loses its state, nothing is lost here: a shard whose result DBOS does not have yet is sent again, and evidence that was
measured already is found by content.

The nodes of the cluster need the same versions of Python, Ray and auditsvc, its settings in their environment
(``AUDITSVC_LEDGER_URL`` and ``AUDITSVC_BLOBS_URL`` that all of them can reach) and the data folder.  For a cluster with
token authentication, set Ray's own ``RAY_AUTH_MODE=token`` and ``RAY_AUTH_TOKEN``.
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

from auditsvc.adapters.jobs.job_store import DbosJobs
from auditsvc.errors import AuditError, Cancelled, Unavailable, errors_by_code
from auditsvc.ports import Result, Tick
from auditsvc.records import JobId, Shard

MAX_ATTEMPTS = 3
"""Attempts of a step that fails with ``Unavailable``."""

PROGRESS_INTERVAL_S = 1.0
"""Minimum interval between progress events of one step, in seconds."""

POLL_S = 0.2
"""Interval for polling a shard's result, in seconds."""

ShardWorkflow = Callable[[Result], Result]


class DbosRunner:
    """``ports.Runner`` for the current workflow."""

    def __init__(self, job: JobId, jobs: DbosJobs, queue: Queue, shard: ShardWorkflow) -> None:
        self._job, self._jobs, self._queue, self._shard = job, jobs, queue, shard

    def step(self, name: str, work: Callable[[], Result]) -> Result:
        """The step's result; see ``ports.Runner.step``."""
        self._jobs.raise_if_cancelled(self._job)
        return run_step(name, work)

    def spread(self, shards: Sequence[Shard]) -> tuple[Result, ...]:
        """Each shard is a workflow of its own; see ``ports.Runner.spread``."""
        handles = []
        for number, shard in enumerate(shards):
            with SetWorkflowID(f"{self._job}.{number}"):
                handles.append(self._queue.enqueue(self._shard, shard.model_dump(mode="json")))
        try:
            return tuple(handle.get_result(polling_interval_sec=POLL_S) for handle in handles)
        except dbos_error.DBOSAwaitedWorkflowCancelledError as error:
            raise Cancelled(f"the job {self._job} was cancelled") from error


def run_step(name: str, work: Callable[[], Result]) -> Result:
    """Run a durable step of the current workflow; retried while it raises ``Unavailable``."""
    try:
        return DBOS.run_step(
            {
                "name": name,
                "retries_allowed": True,
                "max_attempts": MAX_ATTEMPTS,
                "should_retry": lambda error: isinstance(error, Unavailable),
            },
            work,
        )
    except dbos_error.DBOSMaxStepRetriesExceeded as error:
        last = next((one for one in reversed(error.errors) if isinstance(one, AuditError)), error)
        raise Unavailable(f"failed {MAX_ATTEMPTS} times: {last}") from error


class JobProgress:
    """``ports.Progress`` as events of the job, at most one per second for each step."""

    def __init__(self, job: JobId, jobs: DbosJobs) -> None:
        self._job, self._jobs = job, jobs

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:
        """A step with a progress counter.  Raises ``Cancelled`` at the next event after the job was cancelled."""
        self._jobs.raise_if_cancelled(self._job)
        self._jobs.add_event(self._job, title, done=0, total=total)
        done, reported_at = 0, time.monotonic()

        def tick(units: int = 1) -> None:
            nonlocal done, reported_at
            done += units
            if time.monotonic() - reported_at >= PROGRESS_INTERVAL_S:
                reported_at = time.monotonic()
                self._jobs.raise_if_cancelled(self._job)
                self._jobs.add_event(self._job, title, done=done, total=total)

        yield tick
        units = total or done or 1
        self._jobs.add_event(self._job, title, done=units, total=units)

    def say(self, line: str) -> None:
        """Add one line to the job's events."""
        self._jobs.add_event(self._job, "note", message=line)


CANCEL_CHECK_S = 1.0
"""Interval for checking whether the job was cancelled, in seconds."""

Measure = Callable[[str, str], str]
"""Takes a project and a shard as JSON, returns ``serialize_result``'s JSON; the nodes import it by its name."""


class RayCluster:
    """A connection to a running cluster, opened when the first shard is sent."""

    def __init__(self, address: str, measure: Measure, *, gpu: bool = False, project: str = "") -> None:
        """``address`` is the head's, as ``10.0.0.1:6379``, or ``auto`` on one of its nodes."""
        self.address, self._measure, self._gpu, self._project = address, measure, gpu, project
        self._task: Any = None

    def send(self, shard: Shard) -> Any:
        """Queue a shard; Ray's reference to its result.

        Raises:
            Unavailable: Ray is not installed, or the cluster can't be reached or refuses access.
        """
        if self._task is None:
            self._task = self._connected()
        with self._reached():
            return self._task.remote(self._project, shard.model_dump_json())

    def result(self, reference: Any, seconds: float) -> str | None:
        """The task's result as JSON; None if it has not finished within this time.

        Raises:
            Unavailable: its node or the cluster is down.
        """
        import ray

        with self._reached():
            done, _ = ray.wait([reference], timeout=seconds)
            return str(ray.get(reference)) if done else None

    def cancel(self, references: Sequence[Any]) -> None:
        """Cancel queued and running tasks."""
        import ray

        for reference in references:
            ray.cancel(reference, force=True)

    def _connected(self) -> Any:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        try:
            import ray
        except ImportError as error:
            raise Unavailable("AUDITSVC_RAY_ADDRESS needs a package: pip install 'auditsvc[ray]'") from error
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
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            hint = "" if self._task else "; check that it runs and that RAY_AUTH_TOKEN is its token"
            raise Unavailable(f"the Ray cluster at {self.address} failed: {reason}{hint}") from error


class RayRunner(DbosRunner):
    """``ports.Runner`` whose shards run on a Ray cluster."""

    def __init__(self, job: JobId, jobs: DbosJobs, queue: Queue, shard: ShardWorkflow, cluster: RayCluster) -> None:
        super().__init__(job, jobs, queue, shard)
        self._cluster = cluster

    def spread(self, shards: Sequence[Shard]) -> tuple[Result, ...]:
        """Sends all shards at once; each result is a step of its own.  See ``ports.Runner.spread``."""
        if not shards:
            return ()
        sent: dict[int, Any] = {}
        try:
            with JobProgress(self._job, self._jobs).step("shards on Ray", len(shards)) as tick:
                return tuple(self._result_step(number, shards, sent, tick) for number in range(len(shards)))
        except BaseException:
            self._cluster.cancel(list(sent.values()))
            raise

    def _result_step(
        self, number: int, shards: Sequence[Shard], sent: dict[int, Any], tick: Callable[[], None]
    ) -> Result:
        result = run_step(f"shard {number}", partial(self._measured, number, shards, sent))
        sent.pop(number, None)
        tick()
        return result

    def _measured(self, number: int, shards: Sequence[Shard], sent: dict[int, Any]) -> Result:
        """This shard's result; the first shard without one also sends all after it."""
        for later in range(number, len(shards)):
            if later not in sent:
                sent[later] = self._cluster.send(shards[later])
        answer = None
        while answer is None:
            self._jobs.raise_if_cancelled(self._job)
            try:
                answer = self._cluster.result(sent[number], CANCEL_CHECK_S)
            except Unavailable:
                del sent[number]
                raise
        return deserialize_result(answer)


def serialize_result(work: Callable[[], Result]) -> str:
    """The result of ``work``, or the error that it raised, as JSON."""
    try:
        return json.dumps({"result": work()})
    except AuditError as error:
        return json.dumps({"code": error.code, "message": str(error)})


def deserialize_result(answer: str) -> Result:
    """The result in ``serialize_result``'s JSON.  Raises the error that ``work`` raised."""
    fields: dict[str, Any] = json.loads(answer)
    if "code" in fields:
        raise errors_by_code()[fields["code"]](fields["message"])
    result: Result = fields["result"]
    return result
