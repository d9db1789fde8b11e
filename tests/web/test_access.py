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
from auditsvc.web.webhooks.webhook_store import WebhookStore
from tests.fakes import FixedClock
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
