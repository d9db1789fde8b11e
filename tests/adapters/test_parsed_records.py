"""Large records are parsed once, and a damaged schema is said."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from auditsvc.adapters.ledger import SqlLedger, store
from auditsvc.adapters.ledger.store import ParsedRecords
from auditsvc.errors import Unavailable
from auditsvc.records import Candidate, Submission
from tests.contracts.sample import a_candidate, a_submission, one_of_each
from tests.fakes import FixedClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


def _open(path: Path) -> SqlLedger:
    return SqlLedger(f"sqlite:///{path}", FixedClock())


def test_a_large_record_is_parsed_once_and_its_bytes_are_checked_each_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = _open(path)
    ledger.append(*one_of_each(), actor="ann")
    kept = ParsedRecords(smallest=0)
    monkeypatch.setattr(store, "_parsed", kept)
    digest = a_candidate().digest
    first = ledger.get(Candidate, digest)
    assert ledger.get(Candidate, digest) is first
    assert first == a_candidate()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER record_no_update")
        connection.execute(
            "UPDATE record SET body = replace(body, 'candidate', 'candidats') WHERE digest = ?", (digest,)
        )
        connection.commit()
    with pytest.raises(Unavailable, match="damaged"):
        ledger.get(Candidate, digest)
    ledger.close()


def test_parsed_records_are_forgotten_when_they_are_too_many() -> None:
    data = a_candidate().canonical()
    kept = ParsedRecords(smallest=0, most=len(data))
    first = kept.read(Candidate, data, a_candidate().digest)
    assert kept.read(Candidate, data, a_candidate().digest) is first
    kept.read(Submission, a_submission().canonical(), a_submission().digest)
    assert kept.read(Candidate, data, a_candidate().digest) is not first


def test_a_damaged_schema_is_said_and_no_traceback(path: Path) -> None:
    _open(path).close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql = 'CREATE TABEL x' WHERE name = 'record'")
        connection.commit()
    with pytest.raises(Unavailable, match=r"damaged|failed"):
        _open(path)
