"""Shards of an audit on a Ray cluster that a site runs already; the job, its steps and their results stay with DBOS.

A shard goes over as JSON and its result comes back as JSON.  Ray forgets everything with its head, and nothing is
lost by it: a shard whose result DBOS does not keep yet is sent again, and finds by content what it did before.

Nodes of the cluster need the same Python, Ray and auditsvc, its settings in their environment (``AUDITSVC_LEDGER_URL``
and ``AUDITSVC_BLOBS_URL`` that all of them reach) and the data folder.  A cluster with token authentication is entered
with Ray's own ``RAY_AUTH_MODE=token`` and ``RAY_AUTH_TOKEN``.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from dbos import Queue

from auditsvc.adapters.jobs.asking import DbosJobs
from auditsvc.adapters.jobs.running import DbosRunner, JobProgress, ShardWorkflow, kept_step
from auditsvc.errors import AuditError, Unavailable, errors_by_code
from auditsvc.ports import Result
from auditsvc.records import JobId, Shard

LOOK_S = 1.0
"""Between two looks whether the job is still wanted, in seconds."""

Measure = Callable[[str], str]
"""A shard as JSON in, what ``told`` makes out of it out; a function that the nodes can import by its name."""


class RayCluster:
    """A connection to a running cluster, made when the first shard is sent."""

    def __init__(self, address: str, measure: Measure, *, gpu: bool = False) -> None:
        """``address`` is the head's, as ``10.0.0.1:6379``, or ``auto`` on one of its nodes."""
        self.address, self._measure, self._gpu = address, measure, gpu
        self._task: Any = None

    def send(self, shard: Shard) -> Any:
        """Queue a shard; Ray's reference to its result.

        Raises:
            Unavailable: there is no Ray, no cluster, or it does not let us in.
        """
        if self._task is None:
            self._task = self._connected()
        with self._reached():
            return self._task.remote(shard.model_dump_json())

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
        told = None
        while told is None:
            self._jobs.must_go_on(self._job)
            try:
                told = self._cluster.result(sent[number], LOOK_S)
            except Unavailable:
                del sent[number]
                raise
        return heard(told)


def told(work: Callable[[], Result]) -> str:
    """What work gave, or why it did not, in words that cross a process."""
    try:
        return json.dumps({"result": work()})
    except AuditError as error:
        return json.dumps({"code": error.code, "words": str(error)})


def heard(told: str) -> Result:
    """What ``told`` tells.  Raises the error that the work raised."""
    said: dict[str, Any] = json.loads(told)
    if "code" in said:
        raise errors_by_code()[said["code"]](said["words"])
    result: Result = said["result"]
    return result
