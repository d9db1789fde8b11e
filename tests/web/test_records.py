"""Reading records, and what named people do about them."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from starlette.testclient import TestClient

from auditsvc.records import Approval, Candidate, Revocation, Waiver, digest_of
from auditsvc.services.incidents import Watch
from auditsvc.web import service_schema
from auditsvc.web.idempotency import delete_expired_answers
from auditsvc.web.record_routes import PATHS
from auditsvc.web.state import ProjectState
from tests.fakes import FixedClock, MemoryRegistry
from tests.web import sample
from tests.web.conftest import Clients
from tests.web.databases import remembered  # noqa: F401 - the tests of this module run on both databases

NOTHING = "sha256:" + "0" * 64


def test_a_record_is_sent_as_the_bytes_that_its_digest_is_of(reader: TestClient, site: ProjectState) -> None:
    for kind, path in PATHS.items():
        for record in site.ledger.all(kind):
            got = reader.get(f"{path}/{record.digest}")
            assert digest_of(got.content) == record.digest
            assert kind.parse(got.content) == record
            again = reader.get(f"{path}/{record.digest}", headers={"if-none-match": got.headers["etag"]})
            assert again.status_code == 304


@pytest.mark.parametrize("path", PATHS.values())
def test_what_is_not_there_is_not_found(reader: TestClient, path: str) -> None:
    assert reader.get(f"{path}/{NOTHING}").json()["code"] == "not-found"
    assert reader.get(f"{path}/x").json()["code"] == "invalid-input"


def test_pages_follow_each_other_newest_first(reader: TestClient) -> None:
    seen, cursor = [], ""
    while True:
        page = reader.get(f"/v1/candidates?limit=3{cursor}").json()
        seen += [item["record"]["recipe"]["seed"] for item in page["items"]]
        if not page["next"]:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [4, 3, 2, 1]


def test_a_list_can_be_about_one_thing(reader: TestClient) -> None:
    got = reader.get("/v1/decisions", params={"subject": sample.candidate(3).digest}).json()
    assert [item["digest"] for item in got["items"]] == [sample.decision(3, "rejected").digest]
    assert (
        reader.get("/v1/submissions?subject=net/2").json()["items"][0]["record"]["candidate"]
        == sample.candidate(2).digest
    )


@pytest.mark.parametrize("cursor", ["x", "YWZ0ZXIgNQ", "YmVmb3JlIC0x", "%00"])
def test_a_cursor_that_is_not_ours_is_refused(reader: TestClient, cursor: str) -> None:
    assert reader.get(f"/v1/candidates?cursor={cursor}").json()["code"] == "invalid-input"


def test_consent_stands_under_the_name_of_the_token(clients: Clients, site: ProjectState) -> None:
    path = f"/v1/decisions/{sample.decision(2).digest}/approvals"
    got = clients("approver", "bob").post(path, json={"comment": "looked at the flips"})
    assert got.status_code == 201
    approval = Approval.parse(got.content)
    assert (approval.approver, approval.comment) == ("bob", "looked at the flips")
    assert got.headers["location"] == f"/v1/approvals/{approval.digest}"
    assert site.ledger.find(Approval, approval.decision) == (approval,)


def test_who_submitted_can_not_approve(clients: Clients) -> None:
    got = clients("approver", "Ann").post(f"/v1/decisions/{sample.decision(2).digest}/approvals", json={})
    assert (got.status_code, got.json()["code"]) == (409, "conflict")


def test_a_rejected_candidate_can_not_be_approved(clients: Clients) -> None:
    path = f"/v1/decisions/{sample.decision(3, 'rejected').digest}/approvals"
    assert clients("approver", "bob").post(path, json={}).json()["code"] == "not-approved"


def test_a_release_needs_all_its_approvals(clients: Clients) -> None:
    got = clients("auditor").post(f"/v1/decisions/{sample.decision(2).digest}/release")
    assert (got.status_code, got.json()["code"]) == (403, "not-approved")
    assert "0 of 2" in got.json()["detail"]


def test_a_waiver_has_a_rule_a_reason_and_an_end(clients: Clients, site: ProjectState) -> None:
    path = f"/v1/decisions/{sample.decision(3, 'rejected').digest}/waivers"
    client = clients("approver", "bob")
    given = {"rule": "little-is-lost", "reason": "a trial", "until": "2026-12-01"}
    waiver = Waiver.parse(client.post(path, json=given).content)
    assert (waiver.person, waiver.rule, waiver.candidate) == ("bob", "little-is-lost", sample.candidate(3).digest)
    assert client.post(path, json=given | {"rule": "no-such-rule"}).json()["code"] == "invalid-input"
    assert client.post(path, json=given | {"until": "2026-11-01"}).json()["code"] == "invalid-input"
    assert client.post(path, json={}).status_code == 422


def test_a_revocation_takes_two_people(clients: Clients, site: ProjectState) -> None:
    release = sample.released()
    registry = site.ctx.registry
    assert isinstance(registry, MemoryRegistry)
    registry.tags["net", "1"] = {}
    path = f"/v1/releases/{release.digest}/revocations"
    bob, cyd = clients("approver", "bob"), clients("approver", "cyd")
    assert bob.post(path, json={}).json()["code"] == "invalid-input"
    assert bob.post(path, json={"reason": "it fails on night images"}).status_code == 202
    assert bob.post(path, json={}).json()["code"] == "conflict"
    assert bob.get(path).json()["pending"]["requested_by"] == "bob"
    assert bob.get("/v1/gate?model=net&version=1").json()["answer"] == "approved"
    got = cyd.post(path, json={})
    revocation = Revocation.parse(got.content)
    assert (got.status_code, revocation.requested_by, revocation.confirmed_by) == (201, "bob", "cyd")
    assert bob.get("/v1/gate?model=net&version=1").json()["reasons"] == ["it fails on night images"]
    assert bob.get(path).json()["pending"] is None


def test_a_write_with_a_key_is_done_once_and_answered_alike(clients: Clients, site: ProjectState) -> None:
    client, path = clients("auditor", "eve"), "/v1/incident-watches"
    body = {"model": "net", "since": "2026-10-01", "until": "2026-11-01", "words": "mail"}
    first = client.post(path, json=body, headers={"idempotency-key": "k1"})
    again = client.post(path, json=body, headers={"idempotency-key": "k1"})
    assert (first.status_code, again.status_code) == (201, 201), first.text
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"
    assert first.headers["location"] == again.headers["location"]
    assert first.headers["etag"] == again.headers["etag"]
    assert len(site.ledger.find(Watch, "net")) == 1
    other = client.post(path, json=body | {"model": "other"}, headers={"idempotency-key": "k1"})
    assert (other.status_code, other.json()["code"]) == (422, "invalid-input")


@pytest.mark.parametrize(
    ("path", "body", "secret"),
    [("/v1/tokens", {"name": "bob", "role": "approver"}, "token"),
     ("/v1/webhooks", {"url": "https://ci.example.org/hook"}, "secret")],
)  # fmt: skip
def test_a_secret_is_shown_once_and_kept_nowhere(
    clients: Clients, site: ProjectState, path: str, body: dict[str, str], secret: str
) -> None:
    client = clients("admin")
    first = client.post(path, json=body, headers={"idempotency-key": "k1"})
    assert first.status_code == 201, first.text
    again = client.post(path, json=body, headers={"idempotency-key": "k1"})
    assert (again.status_code, again.headers["idempotent-replayed"]) == (409, "true")
    with site.access.read_tx() as connection:
        rows = connection.execute(service_schema.idempotency_key.select()).all()
    assert rows and first.json()[secret] not in str(rows)
    assert len(client.get(path).json()) == (2 if path == "/v1/tokens" else 1)


def test_answers_that_are_over_are_deleted_by_time(clients: Clients, site: ProjectState, clock: FixedClock) -> None:
    clients("admin").post("/v1/tokens", json={"name": "bob", "role": "reader"}, headers={"idempotency-key": "k1"})
    for hours, left in ((23, 1), (2, 0)):
        clock.at += datetime.timedelta(hours=hours)
        delete_expired_answers(site.access)
        with site.access.read_tx() as connection:
            assert len(connection.execute(service_schema.idempotency_key.select()).all()) == left


def test_a_key_belongs_to_its_person(clients: Clients, site: ProjectState) -> None:
    body = {"name": "bob", "role": "approver"}
    for name in ("eve", "fay"):
        clients("admin", name).post("/v1/tokens", json=body, headers={"idempotency-key": "k1"})
    assert [token.name for token in site.access.tokens()].count("bob") == 2


def test_provenance_leads_from_a_file_to_everything_about_it(reader: TestClient) -> None:
    file = sample.candidate(1).files[0].digest
    found = reader.get(f"/v1/provenance/{file}").json()["origins"]
    assert [(item["kind"], item["relation"]) for item in found] == [
        ("candidate", "contains this file"),
        ("release", "contains this file"),
    ]
    for item in found:
        assert reader.get(item["href"]).status_code == 200
    kinds = [item["kind"] for item in reader.get(f"/v1/provenance/{sample.candidate(1).digest}").json()["origins"]]
    assert kinds == ["candidate", "submission", "evidence", "decision", "release"]
    assert reader.get(f"/v1/provenance/{NOTHING}").status_code == 404


def test_issuing_and_revoking_tokens_are_events_in_the_log(clients: Clients, site: ProjectState) -> None:
    admin = clients("admin", "eve")
    made = admin.post("/v1/tokens", json={"name": "bob", "role": "reader", "days": 3}).json()
    assert clients().get("/v1/whoami", headers={"authorization": f"Bearer {made['token']}"}).json() == {
        "name": "bob",
        "role": "reader",
        "project": "",
    }
    assert admin.delete(f"/v1/tokens/{made['about']['id']}").json()["revoked"]
    events = [site.ledger.leaf(index) for index in range(site.ledger.size() - 2, site.ledger.size())]
    assert all(b'"actor":"eve"' in event and made["about"]["id"].encode() in event for event in events)
    assert hashlib.sha256(made["token"].encode()).hexdigest().encode() not in b"".join(events)
    assert made["token"] not in admin.get("/v1/tokens").text


@pytest.mark.parametrize("size", [256 * 1024 + 1, 10 * 1024 * 1024])
def test_a_body_that_is_too_large_is_refused_with_and_without_a_length(clients: Clients, size: int) -> None:
    client = clients("admin")
    said = client.post("/v1/tokens", content=b" " * size, headers={"content-type": "application/json"})
    assert (said.status_code, said.json()["code"]) == (413, "too-large")
    parts = (b" " * 65536 for _ in range(size // 65536 + 1))
    unsaid = client.post("/v1/tokens", content=parts, headers={"content-type": "application/json"})
    assert (unsaid.status_code, unsaid.json()["code"]) == (413, "too-large")


def test_the_candidates_of_a_parent_are_found(reader: TestClient, site: ProjectState) -> None:
    got = reader.get("/v1/candidates", params={"subject": sample.PARENT.digest}).json()
    assert len(got["items"]) == len(list(site.ledger.all(Candidate)))
