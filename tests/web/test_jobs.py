"""Background work over HTTP: taken, watched, stopped, tried again."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from starlette.testclient import TestClient

from auditsvc.records import JOB_KINDS, JobError
from auditsvc.web.state import ProjectState
from auditsvc.web.v1.jobs import JobKind
from tests.fakes.jobs import MemoryJobs
from tests.web import sample
from tests.web.conftest import Clients

AUDIT = {"candidate": sample.candidate(4).digest, "policy": "standard", "data": "faces"}


@pytest.fixture
def auditor(clients: Clients) -> TestClient:
    return clients("auditor", "ann")


@pytest.fixture
def jobs(site: ProjectState) -> MemoryJobs:
    assert isinstance(site.jobs, MemoryJobs)
    return site.jobs


def streamed(client: TestClient, job: str, **headers: str) -> list[tuple[str, str, dict[str, Any]]]:
    """The events of a stream: id, name, data."""
    got = client.get(f"/v1/jobs/{job}/events?wait=0", headers=headers)
    assert (got.status_code, got.headers["content-type"].split(";")[0]) == (200, "text/event-stream")
    events = [dict(line.split(": ", 1) for line in block.split("\n")) for block in got.text.split("\n\n") if block]
    return [(event["id"], event["event"], json.loads(event["data"])) for event in events]


def test_a_job_is_taken_and_found_where_it_says(auditor: TestClient, jobs: MemoryJobs) -> None:
    got = auditor.post("/v1/jobs/audit", json=AUDIT)
    assert got.status_code == 202
    found = auditor.get(got.headers["location"]).json()
    assert found == got.json()
    assert (found["state"], found["submitted_by"], found["request"]["kind"]) == ("queued", "ann", "audit")


@pytest.mark.parametrize(
    ("role", "path", "body"),
    [
        ("submitter", "parent", {"model": "net", "reference": "models:/net/1", "probe": "faces", "source": "us",
                                 "licence": "MIT", "describe": {"preprocessing": {"mean": [0.5], "std": [0.5]}}}),
        ("submitter", "prune", {"parent": sample.PARENT.digest, "calibration": "c",
                                "recipe": {"method": "magnitude-global", "targets": {"sparsity": 0.3}}}),
        ("submitter", "admit", {"parent": sample.PARENT.digest, "reference": "models:/net/4", "probe": "faces"}),
        ("auditor", "release", {"decision": sample.decision(1).digest}),
        ("auditor", "report", {"decision": sample.decision(1).digest, "data": "faces", "formats": ["html", "pdf"]}),
        ("auditor", "monitor", {"release": sample.released().digest, "data": "november"}),
    ],
)  # fmt: skip
def test_every_kind_is_taken(clients: Clients, role: str, path: str, body: dict[str, Any]) -> None:
    got = clients(role).post(f"/v1/jobs/{path}", json=body)
    assert (got.status_code, got.json()["request"]["kind"]) == (202, path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"candidate": "sha256:" + "0" * 64},
        {"policy": "sha256:" + "0" * 64},
        {"data": "../../etc"},
        {"data": "/etc"},
        {"policy": "policies/../secret"},
        {"kind": "release"},
        {"priority": 1},
    ],
)
def test_what_could_never_be_done_is_not_taken(auditor: TestClient, jobs: MemoryJobs, wrong: dict[str, Any]) -> None:
    got = auditor.post("/v1/jobs/audit", json=AUDIT | wrong)
    assert got.status_code == (404 if "0" * 64 in str(wrong) else 422)
    assert jobs.jobs == {}


def test_the_filter_knows_every_kind_of_job() -> None:
    assert get_args(JobKind) == JOB_KINDS


def test_a_write_that_is_sent_again_makes_one_job(auditor: TestClient, jobs: MemoryJobs) -> None:
    first, second = (auditor.post("/v1/jobs/audit", json=AUDIT, headers={"idempotency-key": "one"}) for _ in range(2))
    assert (first.json(), len(jobs.jobs)) == (second.json(), 1)


def test_jobs_are_listed_newest_first_and_filtered(auditor: TestClient, jobs: MemoryJobs) -> None:
    ids = [auditor.post("/v1/jobs/audit", json=AUDIT).json()["id"] for _ in range(3)]
    auditor.post(f"/v1/jobs/{ids[1]}/cancel")
    first = auditor.get("/v1/jobs?limit=2").json()
    rest = auditor.get(f"/v1/jobs?limit=2&cursor={first['next']}").json()
    assert [[job["id"] for job in page["items"]] for page in (first, rest)] == [ids[:0:-1], ids[:1]]
    assert rest["next"] is None
    assert [job["id"] for job in auditor.get("/v1/jobs?state=cancelled&kind=audit").json()["items"]] == [ids[1]]


def test_a_job_is_stopped_and_tried_again_but_not_twice(auditor: TestClient) -> None:
    job = auditor.post("/v1/jobs/audit", json=AUDIT).json()["id"]
    assert auditor.post(f"/v1/jobs/{job}/retry").json()["code"] == "conflict"
    assert auditor.post(f"/v1/jobs/{job}/cancel").json()["state"] == "cancelled"
    assert auditor.post(f"/v1/jobs/{job}/retry").json()["state"] == "queued"


def test_a_job_that_did_not_change_is_not_sent_again(auditor: TestClient, jobs: MemoryJobs) -> None:
    job = auditor.post("/v1/jobs/audit", json=AUDIT).json()["id"]
    tag = {"if-none-match": auditor.get(f"/v1/jobs/{job}").headers["etag"]}
    assert auditor.get(f"/v1/jobs/{job}", headers=tag).status_code == 304
    jobs.cancel(job)
    assert auditor.get(f"/v1/jobs/{job}", headers=tag).json()["state"] == "cancelled"


def test_what_a_job_tells_is_streamed_and_gone_on_with(auditor: TestClient, jobs: MemoryJobs) -> None:
    job = auditor.post("/v1/jobs/audit", json=AUDIT).json()["id"]
    jobs.add_event(job, "occlusion", 0, 500)
    jobs.add_event(job, "occlusion", 320, 500)
    events = streamed(auditor, job)
    assert [(number, name, data["done"]) for number, name, data in events] == [
        ("1", "progress", 0), ("2", "progress", 320),
    ]  # fmt: skip
    jobs._change(job, "failed", error=JobError(code="not-found", message="no data set faces"))
    ((number, name, data),) = streamed(auditor, job, **{"last-event-id": "2"})
    assert (number, name, data["error"]["code"]) == ("end", "end", "not-found")


def test_a_stream_that_ended_is_not_begun_again(auditor: TestClient, jobs: MemoryJobs) -> None:
    job = auditor.post("/v1/jobs/audit", json=AUDIT).json()["id"]
    jobs.cancel(job)
    got = auditor.get(f"/v1/jobs/{job}/events", headers={"last-event-id": "end"})
    assert (got.status_code, got.content) == (204, b"")


@pytest.mark.parametrize("path", ["", "/events"])
def test_a_job_that_is_not_there_is_not_found(auditor: TestClient, path: str) -> None:
    assert auditor.get(f"/v1/jobs/00000000000f-0123456789abcdef{path}").json()["code"] == "not-found"


def test_an_event_id_of_somebody_else_is_refused(auditor: TestClient) -> None:
    job = auditor.post("/v1/jobs/audit", json=AUDIT).json()["id"]
    assert auditor.get(f"/v1/jobs/{job}/events", headers={"last-event-id": "x"}).status_code == 422
