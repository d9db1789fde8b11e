"""Incidents are registered once, are due when the law says, and stop when the authority was told."""

from __future__ import annotations

import datetime

import pytest
from starlette.testclient import TestClient

from auditsvc.compliance.assessment.attestations import Incident, Watch, current, period_end
from auditsvc.records import Parent
from auditsvc.web.state import ProjectState
from tests.fakes import NOON
from tests.web import sample
from tests.web.conftest import Clients

YESTERDAY = NOON - datetime.timedelta(days=1)
KNOWN = {"model": "net", "harm": "death", "words": "A gate did not open.", "aware": YESTERDAY.isoformat()}
TOLD = {"authority": "Market surveillance", "reference": "7/26", "reported": NOON.isoformat()}


@pytest.fixture
def auditor(clients: Clients) -> TestClient:
    return clients("auditor")


def test_an_incident_is_registered_once_under_the_name_of_the_token(auditor: TestClient, site: ProjectState) -> None:
    made = auditor.post("/v1/incidents", json=KNOWN)
    assert made.status_code == 201, made.text
    (record,) = site.ledger.find(Incident, "net")
    assert (record.person, record.digest) == (auditor.get("/v1/whoami").json()["name"], made.headers["etag"].strip('"'))
    assert record.reminder == YESTERDAY + datetime.timedelta(days=10)
    assert record.due == datetime.datetime(2026, 12, 1, 23, 59, 59, tzinfo=datetime.UTC)
    assert auditor.post("/v1/incidents", json=KNOWN).status_code == 409
    assert auditor.get("/v1/incidents?subject=net").json()["items"][0]["digest"] == record.digest


def test_two_incidents_of_one_kind_and_minute_are_two(auditor: TestClient, site: ProjectState) -> None:
    other = KNOWN | {"words": "Another gate did not open."}
    first, second = (auditor.post("/v1/incidents", json=one) for one in (KNOWN, other))
    assert (first.status_code, second.status_code) == (201, 201)
    digest = second.headers["etag"].strip('"')
    assert auditor.post(f"/v1/incidents/{digest}/reports", json=TOLD).status_code == 201
    assert [(one.words, one.reported is None) for one in current(site.ledger.find(Incident, "net"))] == [
        (KNOWN["words"], True), (other["words"], False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "days", "last"),
    [
        ("2026-11-26T09:00", 2, "2026-11-30"),  # Thursday: Friday, then Monday
        ("2026-11-23T00:00", 2, "2026-11-25"),  # Monday
        ("2026-11-25T23:59", 2, "2026-11-27"),  # Wednesday
        ("2026-11-27T12:00", 2, "2026-12-01"),  # Friday: two working days after a weekend
        ("2026-11-28T12:00", 2, "2026-12-01"),  # Saturday
        ("2026-11-18T12:00", 10, "2026-11-30"),  # the tenth day is a Saturday
        ("2026-11-20T12:00", 15, "2026-12-07"),
    ],
)
def test_a_period_of_days_ends_with_a_working_day(event: str, days: int, last: str) -> None:
    found = period_end(datetime.datetime.fromisoformat(event).replace(tzinfo=datetime.UTC), days)
    assert found.isoformat() == f"{last}T23:59:59+00:00"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"model": "nobody"}, 404),
        ({"aware": (NOON + datetime.timedelta(days=1)).isoformat()}, 422),
        ({"harm": "annoyance"}, 422),
        ({"candidate": "sha256:" + "0" * 64}, 404),
    ],
)
def test_what_can_not_be_is_refused(
    auditor: TestClient, site: ProjectState, change: dict[str, str], status: int
) -> None:
    found = auditor.post("/v1/incidents", json=KNOWN | change)
    assert found.status_code in (status, 400), found.text
    assert site.ledger.find(Incident, "net") == ()


def test_a_report_stops_the_clock_once(auditor: TestClient, site: ProjectState) -> None:
    made = auditor.post("/v1/incidents", json=KNOWN).headers["etag"].strip('"')
    early = auditor.post(f"/v1/incidents/{made}/reports", json=TOLD | {"reported": "2020-01-01T00:00:00Z"})
    assert early.status_code in (400, 422)
    assert auditor.post(f"/v1/incidents/{made}/reports", json=TOLD).status_code == 201
    assert auditor.post(f"/v1/incidents/{made}/reports", json=TOLD).status_code == 409
    newest = site.ledger.find(Incident, "net")[-1]
    assert (newest.reported, newest.authority, newest.words) == (NOON, "Market surveillance", KNOWN["words"])


def test_a_watch_ends_before_somebody_speaks_of_it(auditor: TestClient, site: ProjectState) -> None:
    days = {"model": "net", "since": "2026-11-01", "until": NOON.date().isoformat(), "words": "Asked the help desk."}
    assert auditor.post("/v1/incident-watches", json=days).status_code == 201
    assert auditor.post("/v1/incident-watches", json=days | {"until": "2030-01-01"}).status_code in (400, 422)
    assert len(site.ledger.find(Watch, "net")) == 1


def test_the_page_shows_what_is_due_and_takes_the_report(auditor: TestClient, site: ProjectState) -> None:
    form = {**KNOWN, "aware": YESTERDAY.strftime("%Y-%m-%dT%H:%M"), "harm": "widespread", "candidate": ""}
    assert auditor.post("/statements/incidents", data=form, follow_redirects=False).status_code == 303
    page = auditor.get("/statements").text
    assert ">2026-11-24 23:59 UTC</time></b>" in page and 'in <span class="num">2</span> days' in page
    assert "2026-11-23 12:00 UTC</time>; the period ends" in page
    (record,) = site.ledger.find(Incident, "net")
    told = {**TOLD, "reported": NOON.strftime("%Y-%m-%dT%H:%M")}
    sent = auditor.post(f"/statements/incidents/{record.digest}/reports", data=told, follow_redirects=False)
    assert sent.status_code == 303
    assert "reported to Market surveillance (7/26)" in auditor.get("/statements").text
    assert "Register an incident" in auditor.get("/statements/incidents").text
    assert "Record an incident watch" in auditor.get("/statements/incident-watches").text
    watch = {"model": "net", "since": "2026-11-01", "until": "2026-11-20", "words": "Asked."}
    assert auditor.post("/statements/incident-watches", data=watch, follow_redirects=False).status_code == 303
    assert "watched from 2026-11-01 to 2026-11-20" in auditor.get("/statements").text


def test_a_document_about_another_models_candidate_is_refused(clients: Clients, site: ProjectState) -> None:
    other = sample.candidate(1).digest
    given = {"model": "net", "document": "doc.limitations", "title": "t", "statement": "s", "expires": "2030-01-01"}
    assert clients("submitter", "sue").post("/v1/documents", json=given | {"candidate": other}).status_code == 201
    (parent,) = site.ledger.find(Parent, "net")
    site.ledger.append(parent.model_copy(update={"model": "other"}), actor="ann")
    found = clients("submitter", "sue").post("/v1/documents", json=given | {"candidate": other, "model": "other"})
    assert found.status_code in (400, 422) and "does not belong to other" in found.text


def test_what_was_reviewed_is_not_reviewed_again_by_its_first_record(clients: Clients) -> None:
    given = {"model": "net", "document": "doc.limitations", "title": "t", "statement": "s", "expires": "2030-01-01"}
    first = clients("submitter", "sue").post("/v1/documents", json=given).headers["etag"].strip('"')
    assert clients("auditor", "ada").post(f"/v1/documents/{first}/reviews").status_code == 201
    again = clients("auditor", "ada").post(f"/v1/documents/{first}/reviews")
    assert again.status_code == 409 and "reviewed it already" in again.text


def test_answers_are_reviewed_by_somebody_else(clients: Clients) -> None:
    given = {"model": "net", "answers": {"art5.1.f": "no"}, "expires": "2030-01-01"}
    made = clients("auditor", "ada").post("/v1/answers", json=given)
    first = made.headers["etag"].strip('"')
    reviewed = clients("approver", "bob").post(f"/v1/answers/{first}/reviews")
    assert reviewed.status_code == 201 and reviewed.json()["reviewer"]
    assert clients("approver", "bob").post(f"/v1/answers/{first}/reviews").status_code == 409
