"""The contract of ``ports.Jobs``, for every adapter."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from auditsvc.adapters.jobs.job_store import DbosJobs, JobDatabase
from auditsvc.adapters.jobs.worker import Worker
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import Conflict, NotFound
from auditsvc.ports import Context, Jobs
from auditsvc.records import (
    ENDS,
    Candidate,
    Job,
    Mark,
    Parent,
    PruneRequest,
    Recipe,
    ReleaseRequest,
    Submission,
    WatermarkKeyRecord,
)
from auditsvc.services.job_handlers import JobContext
from tests.adapters.postgres import new_database
from tests.fakes import FixedClock, MemoryBlobs, MemoryKeys, MemoryLedger, MemoryRegistry, QuietProgress
from tests.fakes.jobs import MemoryJobs
from tests.services.line import data_in

NOWHERE = ReleaseRequest(decision="sha256:" + "0" * 64)
RECIPE = Recipe(method="magnitude-global", targets={"sparsity": 0.1})


@dataclass
class Office:
    """Somewhere to ask for jobs; ``work_off`` returns when nothing is queued or running any more."""

    jobs: Jobs
    work_off: Callable[[], None]
    ctx: Context

    def prune(self) -> PruneRequest:
        """An order for a candidate that is there already, so that it is done in no time."""
        blobs, ledger = self.ctx.blobs, self.ctx.ledger
        folder = self.ctx.folder / "files"
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        files = (blobs.put_file(folder / "model.safetensors"),)
        parent = Parent(model="m", task="classification", architecture="a", files=files, source="s", licence="l")
        fields = {"model": "m", "task": "classification", "architecture": "a", "files": files, "card": {}}
        digest, kept = parent.digest, blobs.put(b"what finds the mark")
        mark = Mark(scheme="s", commitment=digest, unmarked=digest, parameters={})
        copy = WatermarkKeyRecord(
            commitment=digest, unmarked=digest, release="m", release_number=1, original=kept, queries=kept
        )
        candidate = Candidate(**fields, parent=parent.digest, recipe=RECIPE, mark=mark)
        ledger.append(parent, candidate, copy, actor="test")
        return PruneRequest(parent=parent.digest, recipe=RECIPE, calibration="some")


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def office(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Office]:
    clock = FixedClock()
    ledger = MemoryLedger(clock)
    ctx = Context(
        ledger=ledger, log=ledger, blobs=MemoryBlobs(), registry=MemoryRegistry(), datasets=DatasetReaders(),
        keys=MemoryKeys(), clock=clock, progress=QuietProgress(), folder=tmp_path,
    )  # fmt: skip
    data_in(tmp_path / "data" / "some", images=4)
    room = JobContext(ctx, tmp_path / "data")
    if request.param == "memory":
        jobs = MemoryJobs(room)
        yield Office(jobs, jobs.work_off, ctx)
        return
    store = JobDatabase(new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/jobs.db")
    asked = DbosJobs(store)
    yield Office(asked, lambda: _work_off(store, asked, room, tmp_path), ctx)
    store.close()


def _work_off(store: JobDatabase, jobs: DbosJobs, room: JobContext, folder: Path) -> None:
    worker = Worker(store, room, folder / "slots", max_crashes=3)
    worker.start()
    until = time.monotonic() + 30
    while any(job.state not in ENDS for job in jobs.page(limit=100)) and time.monotonic() < until:
        time.sleep(0.05)
    worker.end(grace_s=0)


def told(job: Job) -> tuple[str, str, str]:
    return job.request.kind, job.submitted_by, job.state


def test_a_job_waits_until_somebody_does_it_and_tells_what_it_made(office: Office) -> None:
    asked = office.jobs.submit(office.prune(), "sue")
    assert told(asked) == told(office.jobs.get(asked.id)) == ("prune", "sue", "queued")
    office.work_off()
    done = office.jobs.get(asked.id)
    (submission,) = office.ctx.ledger.all(Submission)
    assert (done.state, done.error, done.request) == ("done", None, asked.request)
    assert done.result == {
        "candidate": submission.candidate, "submission": submission.digest, "model": "m", "version": submission.version,
    }  # fmt: skip


def test_a_job_that_fails_says_why_and_can_be_tried_again(office: Office) -> None:
    asked = office.jobs.submit(NOWHERE, "ann")
    office.work_off()
    failed = office.jobs.get(asked.id)
    assert failed.state == "failed" and failed.error is not None and failed.error.code == "not-found"
    assert NOWHERE.decision in failed.error.message
    assert office.jobs.retry(asked.id).state == "queued"
    office.work_off()
    assert office.jobs.get(asked.id).error == failed.error


def test_what_failed_for_a_reason_that_is_gone_succeeds_when_tried_again(office: Office) -> None:
    order = office.prune()
    asked = office.jobs.submit(order.model_copy(update={"calibration": "late"}), "sue")
    office.work_off()
    assert office.jobs.get(asked.id).state == "failed"
    data_in(office.ctx.folder / "data" / "late", images=4)
    office.jobs.retry(asked.id)
    office.work_off()
    assert office.jobs.get(asked.id).state == "done"


def test_a_job_that_waits_is_stopped_at_once_and_can_be_queued_again(office: Office) -> None:
    asked = office.jobs.submit(office.prune(), "sue")
    assert office.jobs.cancel(asked.id).state == "cancelled"
    office.work_off()
    assert office.jobs.get(asked.id).state == "cancelled"
    assert list(office.ctx.ledger.all(Submission)) == []
    office.jobs.retry(asked.id)
    office.work_off()
    assert office.jobs.get(asked.id).state == "done"


def test_what_is_over_is_not_stopped_and_what_is_not_over_is_not_tried_again(office: Office) -> None:
    asked = office.jobs.submit(office.prune(), "sue")
    with pytest.raises(Conflict):
        office.jobs.retry(asked.id)
    office.work_off()
    for verb in (office.jobs.cancel, office.jobs.retry):
        with pytest.raises(Conflict):
            verb(asked.id)


def test_jobs_are_listed_newest_first_a_page_at_a_time(office: Office) -> None:
    ids = []
    for _ in range(7):
        ids.append(office.jobs.submit(NOWHERE, "ann").id)
        time.sleep(0.002)  # ids are ordered by the millisecond
    pages, before = [], None
    while page := office.jobs.page(before=before, limit=3):
        pages.append([job.id for job in page])
        before = page[-1].id
    newest = ids[::-1]
    assert pages == [newest[:3], newest[3:6], newest[6:]]


def test_jobs_are_filtered_by_kind_and_state(office: Office) -> None:
    prune, release = office.jobs.submit(office.prune(), "sue"), office.jobs.submit(NOWHERE, "ann")
    assert [job.id for job in office.jobs.page(kind="prune")] == [prune.id]
    office.work_off()
    assert [job.id for job in office.jobs.page(state="failed")] == [release.id]
    assert [job.id for job in office.jobs.page(state="done")] == [prune.id]
    assert office.jobs.page(state="running") == ()


def test_what_a_job_tells_is_numbered_and_read_on_from_where_one_was(office: Office) -> None:
    asked = office.jobs.submit(office.prune(), "sue")
    assert office.jobs.events(asked.id) == ()
    office.work_off()
    events = office.jobs.events(asked.id)
    assert [event.number for event in events] == list(range(1, len(events) + 1))
    assert [event.step for event in events if event.done == 0] == [
        "prune, watermark, reload",
        "index the images",
        "submit",
    ]
    assert office.jobs.events(asked.id, after=events[1].number) == events[2:]
    assert office.jobs.events(asked.id, after=events[-1].number) == ()


def test_what_ended_is_forgotten_and_what_it_made_is_not(office: Office) -> None:
    done, failed = office.jobs.submit(office.prune(), "sue"), office.jobs.submit(NOWHERE, "ann")
    office.work_off()
    stopped, waits = office.jobs.submit(NOWHERE, "ann"), office.jobs.submit(NOWHERE, "ann")
    office.jobs.cancel(stopped.id)
    assert office.jobs.delete_ended(datetime(2020, 1, 1, tzinfo=UTC)) == 0
    assert office.jobs.delete_ended(datetime(2100, 1, 1, tzinfo=UTC)) == 3
    assert [job.id for job in office.jobs.page()] == [waits.id]
    for job in (done, failed, stopped):
        with pytest.raises(NotFound):
            office.jobs.events(job.id)
    assert len(list(office.ctx.ledger.all(Submission))) == 1
    assert office.jobs.delete_ended(datetime(2100, 1, 1, tzinfo=UTC)) == 0


def test_what_nobody_asked_for_is_not_there(office: Office) -> None:
    other = "00000000000f-0123456789abcdef"
    for verb in (office.jobs.get, office.jobs.cancel, office.jobs.retry, office.jobs.events):
        with pytest.raises(NotFound):
            verb(other)
    assert office.jobs.page() == ()


def test_a_room_for_a_job_shares_all_but_the_progress(office: Office) -> None:
    progress = QuietProgress()
    room = JobContext(office.ctx, office.ctx.folder)
    assert room.for_job(progress).ctx == replace(office.ctx, progress=progress)
