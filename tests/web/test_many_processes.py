"""Two service processes on one PostgreSQL and one store: what one is told, the other knows at the next request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from auditsvc.settings import Settings
from auditsvc.web import create_app
from auditsvc.web.app import open_site
from auditsvc.web.state import ProjectState
from tests.adapters.postgres import new_database
from tests.web import sample

pytestmark = pytest.mark.postgres


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[ProjectState, ProjectState]]:
    settings = Settings(store=tmp_path, ledger_url=new_database(), registry_poll_s=0, workers=0)
    opened = open_site(settings, "127.0.0.1"), open_site(settings, "127.0.0.1")
    yield opened
    for site in opened:
        site.close()


def client(site: ProjectState, token: str) -> TestClient:
    headers = {"authorization": f"Bearer {token}"}
    return TestClient(create_app(site), "http://127.0.0.1", headers=headers, raise_server_exceptions=False)


def test_tokens_answers_and_repeated_writes_are_shared(both: tuple[ProjectState, ProjectState]) -> None:
    here, there = both
    admin, _ = here.access.issue("root", "admin", 1)
    one, other = client(here, admin), client(there, admin)
    given = {"name": "ann", "role": "auditor"}
    first = one.post("/v1/tokens", json=given, headers={"idempotency-key": "k"})
    again = other.post("/v1/tokens", json=given, headers={"idempotency-key": "k"})
    assert (first.status_code, again.status_code, again.headers["idempotent-replayed"]) == (201, 409, "true")
    ann = client(there, first.json()["token"])
    assert ann.get("/v1/gate?model=net&version=3").status_code == 404
    here.ledger.append(sample.PARENT, sample.POLICY, sample.candidate(3), sample.submission(3), actor="ann")
    here.ledger.append(sample.evidence(3), sample.decision(3, "rejected"), actor="auditsvc")
    answer = ann.get("/v1/gate?model=net&version=3").json()
    assert answer["answer"] == "inconclusive" and "gave rejected" in " ".join(answer["reasons"])
    one.delete(f"/v1/tokens/{first.json()['about']['id']}")
    assert ann.get("/v1/gate?model=net&version=3").status_code == 401


def test_a_revocation_requested_in_one_process_is_pending_in_the_other(both: tuple[ProjectState, ProjectState]) -> None:
    here, there = both
    sample.fill(here.ledger)
    release = sample.released()
    asking = client(here, here.access.issue("bob", "approver", 1)[0])
    path = f"/v1/releases/{release.digest}/revocations"
    assert asking.post(path, json={"reason": "fails at night"}).status_code == 202
    seen = client(there, there.access.issue("cyd", "approver", 1)[0]).get(path)
    assert seen.json()["pending"]["requested_by"] == "bob"
