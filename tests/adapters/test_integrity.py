"""The ledger against its log: whatever a program with write access removes, changes or adds is named."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from auditsvc.adapters.ledger import SqlLedger
from auditsvc.adapters.ledger.integrity import ledger_faults
from auditsvc.adapters.ledger.schema import metadata
from auditsvc.adapters.sql import Database
from tests.adapters.test_old_store import ARCHIVE
from tests.contracts.sample import a_candidate, a_digest, a_revocation, one_of_each
from tests.fakes import FixedClock


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[SqlLedger]:
    made = SqlLedger(f"sqlite:///{tmp_path}/ledger.db", FixedClock())
    made.append(*one_of_each(), actor="ann")
    made.append_leaf(b"a signature")
    yield made
    made.close()


@pytest.fixture
def intruder(ledger: SqlLedger) -> Iterator[Connection]:
    """Another program's connection, for which no trigger is left; what it does is rolled back at the end."""
    database: Database = ledger._database
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
        for (name,) in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
            connection.exec_driver_sql(f"DROP TRIGGER {name}")
        yield connection
        connection.rollback()


def test_a_ledger_follows_from_its_log(ledger: SqlLedger) -> None:
    assert ledger.faults() == ()


def test_an_old_store_follows_from_its_log(tmp_path: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    old = SqlLedger(f"sqlite:///{tmp_path}/ledger.db", FixedClock())
    old.append(*one_of_each(), actor="ann")
    assert old.faults() == ()
    old.close()


@pytest.mark.parametrize("table", sorted(metadata.tables))
def test_every_row_that_is_deleted_or_changed_is_missed(intruder: Connection, table: str) -> None:
    rows = intruder.exec_driver_sql(f"SELECT rowid AS place, * FROM {table}").mappings().all()
    assert rows
    for row in rows:
        deletion = intruder.begin_nested()
        intruder.exec_driver_sql(f"DELETE FROM {table} WHERE rowid = {row['place']}")
        faults = list(ledger_faults(intruder))
        deletion.rollback()
        later = table in ("waiver", "retirement", "release_rollback")  # an older store has no such row for a record
        assert faults or later, row
        for column in set(row) - {"place"}:
            changed = row[column] + 900 if isinstance(row[column], int) else b"\x07" * 32
            if isinstance(row[column], str):
                changed = "x" + row[column]
            change = intruder.begin_nested()
            intruder.exec_driver_sql(f"UPDATE {table} SET {column} = ? WHERE rowid = {row['place']}", (changed,))
            assert list(ledger_faults(intruder)), (column, row)
            change.rollback()


def test_a_hidden_revocation_is_named(intruder: Connection) -> None:
    digest = a_revocation().digest
    for table in ("subject", "revocation", "record"):
        intruder.execute(text(f"DELETE FROM {table} WHERE digest = :digest"), {"digest": digest})
    (fault,) = ledger_faults(intruder)
    assert "(release.revoked)" in fault and digest in fault and "missing" in fault


def test_a_record_without_an_entry_is_named(intruder: Connection) -> None:
    forged = a_candidate(77)
    values = {"digest": forged.digest, "kind": forged.kind, "body": forged.canonical()}
    intruder.execute(text("INSERT INTO record VALUES (:digest, :kind, :body, 99)"), values)
    assert any(f"{forged.digest} has no entry in the log" in fault for fault in ledger_faults(intruder))


def test_an_index_entry_that_no_record_gives_is_named(intruder: Connection) -> None:
    digest, position = intruder.execute(text("SELECT digest, position FROM record WHERE kind = 'release'")).first() or (
        a_revocation().digest,
        intruder.execute(text("SELECT position FROM record WHERE kind = 'revocation'")).scalar_one(),
    )
    row = {"about": a_digest(99), "position": position, "digest": digest}
    intruder.execute(text("INSERT INTO subject VALUES ('revocation', :about, :position, :digest)"), row)
    (fault,) = ledger_faults(intruder)
    assert "no record gives this row of the table subject" in fault


def test_a_log_that_was_cut_is_named(intruder: Connection) -> None:
    intruder.execute(text("DELETE FROM leaf WHERE idx = 3"))
    assert "log entry 3 is missing" in list(ledger_faults(intruder))
