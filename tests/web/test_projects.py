"""Projects see nothing of each other, because each has a store of its own; and one caller can't crowd out others."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import auditsvc.web
from auditsvc.errors import InvalidInput, TooMany
from auditsvc.records import Candidate
from auditsvc.settings import Settings
from auditsvc.web import create_app
from auditsvc.web.app import open_site
from auditsvc.web.connection_limits import BURST_S, RateLimiter
from auditsvc.web.state import ProjectState
from tests.web import sample
from tests.web.conftest import Clients

SOURCES = Path(auditsvc.web.__file__).parent
OTHER = sample.candidate(1)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[ProjectState]:
    """An installation with a project ``plates``, which alone knows a candidate."""
    made = open_site(Settings(store=tmp_path, projects="plates, faces"), "127.0.0.1")
    made.of("plates").ledger.append(sample.PARENT, OTHER, sample.submission(1), actor="ann")
    yield made
    made.close()


def _client(site: ProjectState, role: str, project: str, name: str = "gus") -> TestClient:
    token, _ = site.access.issue(name, role, 1, project)
    headers = {"authorization": f"Bearer {token}"}
    return TestClient(create_app(site), "http://127.0.0.1", headers=headers, raise_server_exceptions=False)


def test_a_project_sees_its_own_and_nothing_else(two: ProjectState) -> None:
    seen = {name: _client(two, "reader", name) for name in ("", "plates", "faces")}
    for name, client in seen.items():
        here = name == "plates"
        assert len(client.get("/v1/candidates").json()["items"]) == here
        assert (client.get(f"/v1/candidates/{OTHER.digest}").status_code == 200) is here
        assert (client.get("/v1/gate?model=net&version=1").status_code == 200) is here
        assert (client.get(f"/v1/provenance/{OTHER.digest}").status_code == 200) is here
        assert (client.get(f"/candidates/{OTHER.digest}").status_code == 200) is here
        assert (client.get("/v1/log/inclusion", params={"object": OTHER.digest}).status_code == 200) is here
    assert len({client.get("/v1/log/checkpoint").text for client in seen.values()}) == 3
    assert len({client.get("/v1/keys").text for client in seen.values()}) == 3
    assert list(two.ledger.all(Candidate)) == []


def test_an_admin_of_a_project_hands_out_tokens_there_only(two: ProjectState) -> None:
    first, plates = _client(two, "admin", ""), _client(two, "admin", "plates")
    wanted = {"name": "bob", "role": "reader"}
    assert first.post("/v1/tokens", json=wanted | {"project": "faces"}).json()["about"]["project"] == "faces"
    assert plates.post("/v1/tokens", json=wanted).json()["about"]["project"] == "plates"
    assert plates.post("/v1/tokens", json=wanted | {"project": "faces"}).status_code == 403
    assert plates.post("/v1/tokens", json=wanted | {"project": ""}).status_code == 403
    assert first.post("/v1/tokens", json=wanted | {"project": "nowhere"}).status_code == 403
    assert {token["project"] for token in plates.get("/v1/tokens").json()} == {"plates"}
    assert {token["project"] for token in first.get("/v1/tokens").json()} == {"", "plates", "faces"}
    foreign = next(token["id"] for token in first.get("/v1/tokens").json() if token["project"] == "faces")
    assert plates.delete(f"/v1/tokens/{foreign}").status_code == 404
    assert first.delete(f"/v1/tokens/{foreign}").status_code == 200


def test_a_receiver_hears_of_its_project_only(two: ProjectState) -> None:
    _client(two, "admin", "faces").post("/v1/webhooks", json={"url": "https://example.org/x"})
    assert len(two.of("faces").webhooks.webhooks()) == 1
    assert (two.webhooks.webhooks(), two.of("plates").webhooks.webhooks()) == ((), ())
    event = json.loads(two.of("faces").ledger.leaf(two.of("faces").ledger.size() - 1))
    assert event["type"] == "webhook.created"


def test_a_token_of_a_project_that_is_gone_is_refused(two: ProjectState) -> None:
    client = _client(two, "reader", "gone")
    assert (client.get("/v1/whoami").status_code, client.get("/").status_code) == (403, 403)


def test_no_route_reaches_past_the_caller_s_project() -> None:
    """Only what decides who calls, and what concerns the whole installation, may name the application's own site."""
    naming = {path.name for path in SOURCES.rglob("*.py") if "app.state.site" in path.read_text()}
    assert naming == {
        "__init__.py", "login.py", "health.py", "idempotency.py", "authentication.py"
    }  # fmt: skip


def test_stores_elsewhere_are_apart_too(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"needs \{project\}"):
        Settings(store=tmp_path, projects="plates", ledger_url="postgresql://db/audit")
    parted = Settings(store=tmp_path, projects="plates", ledger_url="postgresql://db/audit_{project}")
    assert parted.for_project("plates").ledger_db == "postgresql://db/audit_plates"
    assert parted.for_project("").ledger_db == "postgresql://db/audit_main"
    with pytest.raises(InvalidInput, match="no project 'faces'"):
        parted.for_project("faces")


def test_each_caller_has_its_share_and_no_more() -> None:
    now = [0.0]
    limiter = RateLimiter(10, lambda: now[0])
    for _ in range(int(10 * BURST_S)):
        limiter.count("bob")
    with pytest.raises(TooMany, match="at most 10"):
        limiter.count("bob")
    limiter.count("cyd")
    now[0] += 0.11
    limiter.count("bob")
    with pytest.raises(TooMany):
        limiter.count("bob")


def test_too_many_requests_are_told_when_to_come_back(clients: Clients, site: ProjectState) -> None:
    site.limiter = RateLimiter(1)
    client = clients("reader", client=("192.0.2.7", 1))
    found = [client.get("/v1/whoami") for _ in range(4)]
    assert [got.status_code for got in found] == [200, 200, 429, 429]
    assert (found[2].json()["code"], found[2].headers["retry-after"]) == ("too-many", "1")
    assert [clients().get("/v1/whoami").status_code for _ in range(4)] == [200] * 4  # nobody on this machine is counted
