"""PostgreSQL refuses by itself what SQLite refuses by itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from auditsvc.adapters.ledger import SqlLedger
from auditsvc.web.auth.token_store import TokenStore
from tests.adapters.postgres import new_database
from tests.adapters.test_ledger import TABLES, refuses_superseded
from tests.contracts.sample import a_decision, a_digest, one_of_each
from tests.fakes import FixedClock

pytestmark = pytest.mark.postgres


@pytest.fixture
def ledger() -> Iterator[SqlLedger]:
    opened = SqlLedger(new_database(), FixedClock())
    opened.append(*one_of_each(), actor="ann")
    yield opened
    opened.close()


def _raw(ledger: SqlLedger, statement: str, **values: object) -> None:
    with ledger._database.engine.begin() as connection:
        connection.execute(text(statement), values)


@pytest.mark.parametrize("table", TABLES)
def test_no_program_changes_or_deletes_a_row(ledger: SqlLedger, table: str) -> None:
    column = {"leaf": "idx", "node": "idx", "submission": "candidate", "subject": "kind", "person": "name"}.get(
        table, "digest"
    )
    for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}", f"TRUNCATE {table} CASCADE"):
        with pytest.raises(IntegrityError, match="append_only"):
            _raw(ledger, statement)


def test_no_program_lets_one_person_be_two(ledger: SqlLedger) -> None:
    approve = "INSERT INTO approval VALUES (:digest, :decision, :candidate, :submitter, :approver)"
    about = {"digest": a_digest(50), "decision": a_decision().digest, "candidate": a_decision().candidate}
    for name, submitter, approver in (
        ("two_people_approve", "ann", "Ann"),
        ("foreign key", "somebody else", "ann"),
        ("one_approval_each", "ann", "Bob"),
    ):
        with pytest.raises(IntegrityError, match=name):
            _raw(ledger, approve, **about, submitter=submitter, approver=approver)
    with pytest.raises(IntegrityError, match="two_people_revoke"):
        _raw(ledger, "INSERT INTO revocation VALUES (:digest, :digest, 'ann', 'ANN')", digest=a_digest(50))
    with pytest.raises(IntegrityError, match="two_people_retire"):
        _raw(ledger, "INSERT INTO retirement VALUES (:digest, 'ann', 'ANN')", digest=a_digest(50))
    waive = {"digest": a_digest(50), "candidate": a_decision().candidate}
    with pytest.raises(IntegrityError, match="two_people_waive"):
        _raw(ledger, "INSERT INTO waiver VALUES (:digest, :candidate, 'ann', 'Ann')", **waive)


@pytest.mark.parametrize("kind", ["approval", "decision", "waiver", "revocation", "retirement"])
def test_no_program_adds_a_record_past_its_constraints(ledger: SqlLedger, kind: str) -> None:
    with pytest.raises(IntegrityError, match="guarded"):
        _raw(ledger, "INSERT INTO record VALUES (:digest, :kind, ''::bytea, 99)", digest=a_digest(60), kind=kind)


def test_no_program_approves_or_releases_a_superseded_decision(ledger: SqlLedger) -> None:
    def insert(digest: str, kind: str, body: bytes) -> None:
        about = {"digest": digest, "decision": a_decision().digest, "candidate": a_decision().candidate}
        with ledger._database.engine.begin() as connection:
            if kind == "approval":
                row = "INSERT INTO approval VALUES (:digest, :decision, :candidate, 'ann', 'cho')"
                connection.execute(text(row), about)
            record = {"digest": digest, "kind": kind, "body": body}
            connection.execute(text("INSERT INTO record VALUES (:digest, :kind, :body, 99)"), record)

    refuses_superseded(ledger, insert, IntegrityError)


def test_a_server_that_was_restarted_is_found_again() -> None:
    url = new_database()
    ledger, access = SqlLedger(url, FixedClock()), TokenStore(url, FixedClock())
    secret, _ = access.issue("ann", "reader", 1)
    assert ledger.size() == 0 and access.caller(secret).name == "ann"
    other = create_engine(url)
    with other.connect() as connection:  # what a restart does to everybody's connections
        own = "datname = current_database() AND pid <> pg_backend_pid()"
        connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}"))
    assert ledger.size() == 0 and access.caller(secret).name == "ann"
    other.dispose()
    access.close()
    ledger.close()
