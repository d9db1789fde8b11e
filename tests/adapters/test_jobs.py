"""Workers that run, crash, freeze and are stopped: leases, heartbeats and recovery."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, text

from auditsvc.adapters.jobs.job_store import DbosJobs, JobDatabase, worker
from auditsvc.adapters.jobs.worker import HEARTBEAT_TIMEOUT_S, Heartbeat, Worker, WorkerLease, private_tempdir
from auditsvc.errors import Conflict, InvalidInput, Unavailable
from auditsvc.ports import Context, Progress
from auditsvc.records import AuditRequest, Job, ReportRequest
from auditsvc.services.job_handlers import JobContext
from tests.adapters.postgres import new_database
from tests.fakes import FixedClock, MemoryBlobs, MemoryKeys, MemoryLedger, MemoryRegistry, QuietProgress
from tests.web import sample

ELSEWHERE = "deadbeef/1"
REPORT = ReportRequest(decision=sample.decision(1).digest, data="some")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JobDatabase]:
    opened = JobDatabase(new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/jobs.db")
    yield opened
    opened.close()


@contextmanager
def a_heart(store: JobDatabase, folder: Path, max_crashes: int = 3) -> Iterator[Heartbeat]:
    slot = WorkerLease.take(folder)
    yield Heartbeat(store, DbosJobs(store), slot, folder, max_crashes)
    slot.release()


def lives(store: JobDatabase) -> set[str]:
    with store.read_tx() as connection:
        return {row.executor_id for row in connection.execute(select(worker.c.executor_id))}


def left_by(store: JobDatabase, executor: str, silent_s: float) -> Job:
    """A job that a worker was at which has not told that it lives for so long."""
    job = DbosJobs(store).submit(REPORT, "ann")
    table = "workflow_status" if store.is_sqlite else "dbos.workflow_status"
    with store.write_tx() as connection:
        connection.execute(
            text(f"UPDATE {table} SET status='PENDING', executor_id=:who WHERE workflow_uuid=:job"),
            {"who": executor, "job": job.id},
        )
        connection.execute(insert(worker).values(executor_id=executor, heartbeat=store.now - silent_s, recovered_by=""))
    return job


def test_a_slot_has_one_worker_and_the_same_name_again(tmp_path: Path) -> None:
    one, two = WorkerLease.take(tmp_path), WorkerLease.take(tmp_path)
    names = (one.executor_id, two.executor_id)
    one.release()
    again = WorkerLease.take(tmp_path)
    assert (len(set(names)), again.executor_id) == (2, names[0])
    assert WorkerLease.take(tmp_path / "elsewhere").executor_id.split("/")[0] != names[0].split("/")[0]
    two.release()


def test_what_a_killed_worker_left_in_its_place_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "auditsvc-cafe-1" / "auditsvc-clean-x"
    left.mkdir(parents=True)
    with private_tempdir("cafe/1") as place:
        assert not left.exists() and place.stat().st_mode & 0o077 == 0
        with tempfile.TemporaryDirectory() as name:
            assert Path(name).parent == place
    assert tempfile.gettempdir() == str(tmp_path) and list(tmp_path.iterdir()) == []
    (tmp_path / "auditsvc-cafe-1").write_text("somebody else's")
    with pytest.raises(Unavailable, match="TMPDIR"), private_tempdir("cafe/1"):
        pass


def test_an_audit_that_asks_for_a_gpu_waits_for_a_worker_that_has_one(store: JobDatabase) -> None:
    jobs, order = DbosJobs(store), AuditRequest(candidate=sample.candidate(1).digest, policy="standard", data="some")
    plain, wanting = jobs.submit(order, "ann"), jobs.submit(order.model_copy(update={"device": "gpu"}), "ann")
    queues = {item.workflow_id: item.queue_name for item in store.client.list_workflows()}
    assert (queues[plain.id], queues[wanting.id]) == ("jobs", "jobs-gpu")
    assert [event.step for event in jobs.events(wanting.id)] == ["queued"]
    assert "GPU" in jobs.events(wanting.id)[0].message
    jobs.cancel(wanting.id)
    jobs.retry(wanting.id)
    assert {item.workflow_id: item.queue_name for item in store.client.list_workflows()}[wanting.id] == "jobs-gpu"


def test_the_jobs_of_one_who_died_elsewhere_are_queued_again(store: JobDatabase, tmp_path: Path) -> None:
    job = left_by(store, ELSEWHERE, HEARTBEAT_TIMEOUT_S + 1)
    with a_heart(store, tmp_path / "slots") as heart:
        heart.start()
        assert DbosJobs(store).get(job.id).state == "running"
        heart.beat()
    jobs = DbosJobs(store)
    assert jobs.get(job.id).state == "queued"
    assert [event.step for event in jobs.events(job.id)] == ["recovered"]
    assert ELSEWHERE not in lives(store)


def test_one_who_is_only_slow_keeps_its_jobs(store: JobDatabase, tmp_path: Path) -> None:
    job = left_by(store, ELSEWHERE, HEARTBEAT_TIMEOUT_S - 10)
    with a_heart(store, tmp_path / "slots") as heart:
        heart.start()
        heart.beat()
    assert DbosJobs(store).get(job.id).state == "running"
    assert ELSEWHERE in lives(store)


def test_a_neighbour_who_died_is_buried_at_once(store: JobDatabase, tmp_path: Path) -> None:
    with a_heart(store, tmp_path) as heart:
        heart.start()
        gone = WorkerLease.take(tmp_path)
        job = left_by(store, gone.executor_id, 0)
        heart.beat()
        assert DbosJobs(store).get(job.id).state == "running"
        gone.release()
        heart.beat()
    assert DbosJobs(store).get(job.id).state == "queued"


def test_what_a_slot_left_undone_is_put_back_when_it_is_taken_again(store: JobDatabase, tmp_path: Path) -> None:
    with a_heart(store, tmp_path) as heart:
        heart.start()
        job = left_by(store, ELSEWHERE, 0)
        table = "workflow_status" if store.is_sqlite else "dbos.workflow_status"
        with store.write_tx() as connection:
            connection.execute(text(f"UPDATE {table} SET executor_id=:who"), {"who": heart._lease.executor_id})
    with a_heart(store, tmp_path) as heart:
        heart.start()
    assert DbosJobs(store).get(job.id).state == "queued"


def test_one_who_was_taken_for_dead_finds_out_and_ends(store: JobDatabase, tmp_path: Path) -> None:
    with a_heart(store, tmp_path / "one") as frozen, a_heart(store, tmp_path / "two") as other:
        frozen.start()
        other.start()
        with store.write_tx() as connection:
            connection.execute(
                worker.update().where(worker.c.executor_id == frozen._lease.executor_id).values(heartbeat=0)
            )
        other.beat()
        with pytest.raises(Conflict, match="taken for dead"):
            frozen.beat()


def test_a_job_over_which_too_many_died_is_given_up_and_can_be_tried_again(store: JobDatabase, tmp_path: Path) -> None:
    jobs = DbosJobs(store)
    with a_heart(store, tmp_path / "slots", max_crashes=0) as heart:
        heart.start()
        job = left_by(store, ELSEWHERE, HEARTBEAT_TIMEOUT_S + 1)
        heart.beat()
    given_up = jobs.get(job.id)
    assert (given_up.state, given_up.error and given_up.error.code) == ("failed", "unavailable")
    assert [one.id for one in jobs.page(state="failed")] == [job.id]
    assert jobs.page(state="cancelled") == ()
    assert jobs.retry(job.id).state == "queued"


@dataclass
class Slow:
    """Data sets that take for ever to open, tick by tick; ``begun`` is set at the first."""

    progress: Progress
    begun: threading.Event

    def open(self, path: Path) -> Any:
        with self.progress.step("open", 10**6) as tick:
            while True:
                self.begun.set()
                tick()
                time.sleep(0.01)


class SlowRoom(JobContext):
    """A room whose data sets are slow."""

    begun = threading.Event()

    def dataset(self, name: str) -> Any:
        return Slow(self.ctx.progress, self.begun).open(self.data / name)


def test_a_job_that_runs_is_stopped_at_its_next_sign_of_life(store: JobDatabase, tmp_path: Path) -> None:
    clock = FixedClock()
    ledger = MemoryLedger(clock)
    sample.fill(ledger)
    ctx = Context(
        ledger=ledger, log=ledger, blobs=MemoryBlobs(), registry=MemoryRegistry(), datasets=None,  # type: ignore[arg-type]
        keys=MemoryKeys(), clock=clock, progress=QuietProgress(), folder=tmp_path,
    )  # fmt: skip
    room = SlowRoom(ctx, tmp_path)
    made, jobs = Worker(store, room, tmp_path / "slots", 3), DbosJobs(store)
    made.start()
    job = jobs.submit(REPORT, "ann")
    assert room.begun.wait(20)
    assert jobs.cancel(job.id).state == "cancelled"
    stopped = any(not _is_at_work(jobs, job.id) for _ in range(10))
    made.end(grace_s=0)
    assert (stopped, jobs.get(job.id).state) == (True, "cancelled")


def _is_at_work(jobs: DbosJobs, job: str) -> bool:
    before = len(jobs.events(job))
    time.sleep(1.5)
    return len(jobs.events(job)) > before


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////nowhere/at/all/\0/jobs.db"])
def test_a_database_that_can_not_be_opened_says_so(url: str) -> None:
    with pytest.raises((InvalidInput, Unavailable, ValueError)):
        JobDatabase(url)
