"""The service's own tables are shared by all its processes, on SQLite and on PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import insert
from starlette.testclient import TestClient

from auditsvc.errors import Conflict, InvalidInput, Unauthenticated, Unavailable
from auditsvc.settings import Settings
from auditsvc.web import create_app, service_schema
from auditsvc.web.auth.token_store import TokenStore
from auditsvc.web.state import ProjectState
from auditsvc.web.webhook_delivery import WebhookStore
from tests.fakes import FixedClock
from tests.web import sample
from tests.web.conftest import Clients
from tests.web.databases import remembered

__all__ = ["remembered"]


@pytest.fixture
def two(remembered, clock):
    """Two processes of one installation, as far as the database can tell."""
    both = TokenStore(remembered, clock), TokenStore(remembered, clock)
    yield both
    for one in both:
        one.close()


def test_a_token_counts_everywhere_until_it_is_revoked_anywhere(two: tuple[TokenStore, TokenStore]) -> None:
    here, there = two
    secret, token = here.issue("ann", "auditor approver", 1, "plates")
    assert there.caller(secret).roles == ("auditor", "approver")
    assert there.tokens() == here.tokens() == (token,)
    there.revoke(token.id)
    for one in two:
        with pytest.raises(Unauthenticated):
            one.caller(secret)
    assert here.tokens()[0].revoked is not None


def test_a_transaction_is_kept_whole_or_not_at_all(two: tuple[TokenStore, TokenStore]) -> None:
    here, there = two
    row = {"project": "p", "log_size": 1}
    with pytest.raises(RuntimeError), here.write_tx() as connection:
        connection.execute(insert(service_schema.webhook_cursor), row)
        raise RuntimeError("killed")
    for expected in ("first", "second"):
        if expected == "first":
            with there.write_tx() as connection:
                connection.execute(insert(service_schema.webhook_cursor), row)
        else:
            with pytest.raises(Conflict, match="a moment ago"), here.write_tx() as connection:
                connection.execute(insert(service_schema.webhook_cursor), row)


def test_dispatchers_of_many_processes_send_each_delivery_once(
    two: tuple[TokenStore, TokenStore], clock: FixedClock
) -> None:
    stores = [WebhookStore(access, clock) for access in two]
    stores[0].add("https://one.example/", (), "ann")
    stores[0].enqueue(40, [(number, "release.created", b"{}") for number in range(40)])
    stores[1].enqueue(30, [(number, "release.created", b"{}") for number in range(30)])  # a slower process
    assert stores[1].cursor() == 40
    with ThreadPoolExecutor(4) as pool:
        claimed = list(pool.map(lambda number: stores[number % 2].claim(limit=7), range(12)))
    sent = [due.id for batch in claimed for due in batch]
    assert len(sent) == len(set(sent)) == 40


def test_a_write_with_a_key_is_done_once_by_two_processes(
    site: ProjectState, two: tuple[TokenStore, TokenStore], remembered: str
) -> None:
    secret, _ = site.access.issue("gus", "admin", 1)
    headers = {"authorization": f"Bearer {secret}", "idempotency-key": "k1"}
    body = {"name": "bob", "role": "reader"}

    def ask(_: int) -> int:
        client = TestClient(create_app(site), "http://127.0.0.1", headers=headers)
        return client.post("/v1/tokens", json=body).status_code

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(ask, range(8)))
    assert 201 in answers and set(answers) <= {201, 409}
    assert [token.name for token in two[0].tokens()].count("bob") == 1


def test_they_are_in_the_ledgers_database_on_postgresql_and_in_the_store_otherwise(tmp_path) -> None:
    assert Settings(store=tmp_path).service_db == f"sqlite:///{tmp_path}/access.db"
    assert Settings(store=tmp_path, ledger_url="postgresql+psycopg://h/d").service_db == "postgresql+psycopg://h/d"
    with pytest.raises(InvalidInput, match="not a database URL"):
        TokenStore("nonsense", FixedClock())
    with pytest.raises(Unavailable, match="can't be"):
        TokenStore("sqlite:////proc/none/access.db", FixedClock())


def _issued(admin: TestClient, site: ProjectState, name: str, role: str) -> dict[str, str]:
    got = admin.post("/v1/tokens", json={"name": name, "role": role})
    assert got.status_code == 201, got.text
    return {"authorization": f"Bearer {got.json()['token']}"}


def test_one_admin_can_not_make_both_people(clients: Clients, site: ProjectState) -> None:
    """The submitter of version 2 is ann; her token, and those of the approvers, come from one admin or from two."""
    path = f"/v1/decisions/{sample.decision(2).digest}/approvals"
    gus, hal = clients("admin", "gus"), clients("admin", "hal")
    second = TestClient(gus.app, "http://127.0.0.1", headers=_issued(gus, site, "ida", "admin"))
    _issued(gus, site, "ann", "submitter")
    outsider = clients()
    for admin in (gus, second):  # an admin whose token gus issued is no other source
        refused = outsider.post(path, json={}, headers=_issued(admin, site, f"bob-{admin is gus}", "approver"))
        assert (refused.status_code, "may be one person" in refused.text) == (403, True), refused.text
    own = outsider.post(path, json={}, headers=_issued(hal, site, "gus", "approver"))
    assert own.status_code == 403  # gus issued ann's token
    assert outsider.post(path, json={}, headers=_issued(hal, site, "cyd", "approver")).status_code == 201
    twin = outsider.post(path, json={}, headers=_issued(hal, site, "dee", "approver"))
    assert twin.status_code == 403  # hal issued cyd's token, who approved already
    waiver = {"rule": "little-is-lost", "reason": "a trial", "until": "2026-12-01"}
    about = f"/v1/decisions/{sample.decision(3, 'rejected').digest}/waivers"
    assert outsider.post(about, json=waiver, headers=_issued(gus, site, "eli", "approver")).status_code == 403


def test_one_admin_can_not_make_both_people_of_a_revocation(clients: Clients, site: ProjectState) -> None:
    path, outsider = f"/v1/releases/{sample.released().digest}/revocations", clients()
    gus = clients("admin", "gus")
    bob, cyd = (_issued(gus, site, name, "approver") for name in ("bob", "cyd"))
    assert outsider.post(path, json={"reason": "a flaw"}, headers=bob).status_code == 202
    assert outsider.post(path, json={}, headers=cyd).status_code == 403
    assert outsider.post(path, json={}, headers=bob).status_code == 409
    assert clients("approver", "dee").get(path).json()["revocations"] == []


def test_a_second_spelling_of_a_name_gets_no_token(clients: Clients, site: ProjectState) -> None:
    gus = clients("admin", "gus")
    _issued(gus, site, "sue-", "submitter")
    got = gus.post("/v1/tokens", json={"name": "sue.", "role": "approver"})
    assert (got.status_code, got.json()["code"]) == (409, "conflict")
    _issued(gus, site, "Sue-", "approver")


def test_approvals_by_token_can_be_forbidden(clients: Clients, site: ProjectState) -> None:
    site.approver_tokens = False
    got = clients("approver", "bob").post(f"/v1/decisions/{sample.decision(2).digest}/approvals", json={})
    assert (got.status_code, "OIDC" in got.text) == (403, True)
