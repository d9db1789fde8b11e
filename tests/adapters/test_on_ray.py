"""Shards on a Ray cluster: the same evidence, and a job that outlives the cluster's troubles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from auditsvc.adapters.jobs.runners import deserialize_result, serialize_result
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.ports import Result
from auditsvc.records import AuditRequest, Candidate, Evidence
from auditsvc.services.job_handlers import run_job
from tests.adapters.ray_cluster import ENTRANCE, ray_cluster
from tests.bench.office import Office, a_policy, opened
from tests.fakes.jobs import MemoryRunner

POLICY = a_policy(accuracy={}, occlusion={}, lighting={})
JOB = "000000000001-0000000000000000"


@contextmanager
def a_worker(office: Office, address: str, **more: str) -> Iterator[None]:
    """``auditsvc worker`` with this cluster."""
    settings = {"AUDITSVC_STORE": str(office.settings.store), "AUDITSVC_RAY_ADDRESS": address, "AUDITSVC_THREADS": "1"}
    command = [sys.executable, "-m", "auditsvc", "worker"]
    with subprocess.Popen(command, env={**os.environ, **ENTRANCE, **settings, **more}) as process:
        try:
            yield
        finally:
            process.kill()


def test_results_and_faults_cross_a_process_as_they_are() -> None:
    assert deserialize_result(serialize_result(lambda: {"answers": "sha256:1"})) == {"answers": "sha256:1"}

    def fails() -> dict[str, str]:
        raise Conflict("the data set was changed")

    with pytest.raises(Conflict, match="the data set was changed"):
        deserialize_result(serialize_result(fails))
    assert json.loads(serialize_result(fails))["code"] == "conflict"
    with pytest.raises(InvalidInput):
        deserialize_result('{"code": "invalid-input", "message": "no"}')


def readings_of(office: Office, result: Result) -> dict[str, object]:
    """What every check read, by its name."""
    found = [office.ctx.ledger.get(Evidence, digest) for digest in result["evidence"]]
    return {one.key.check: one.readings for one in found}


@pytest.mark.slow
def test_an_audit_on_ray_reads_what_one_process_reads(tmp_path: Path) -> None:
    office = opened(tmp_path / "store", "", images=300, policies=(POLICY,), shard_work=1000)
    other = opened(
        tmp_path / "other", "", images=300, policies=(POLICY,), shard_work=10**9, keys=tmp_path / "store/keys"
    )
    for one in (office, other):
        run_job(JOB, one.prune(0), "sue", one.room, MemoryRunner(one.room))
    (candidate,) = office.ctx.ledger.all(Candidate)
    order = AuditRequest(candidate=candidate.digest, policy=POLICY.digest, data="audited")
    with ray_cluster({"AUDITSVC_STORE": str(office.settings.store)}) as address:
        with a_worker(office, address, RAY_AUTH_TOKEN="a-token-of-somebody-else-altogether"):
            job = office.jobs.submit(order, "ann").id
            assert office.wait([job], 240) == []
        refused = office.jobs.get(job)
        assert refused.state == "failed" and "the Ray cluster" in str(refused.error)
        with a_worker(office, address):
            office.jobs.retry(job)
            assert office.wait([job], 240) == []
    done = office.jobs.get(job)
    assert (done.state, done.error) == ("done", None)
    assert "shards on Ray" in {event.step for event in office.jobs.events(job)}
    here = run_job(JOB, order, "ann", other.room, MemoryRunner(other.room))
    assert readings_of(office, done.result) == readings_of(other, here)
    assert len(here["evidence"]) == len(POLICY.checks)
