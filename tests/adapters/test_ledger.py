"""The SQL ledger as its own database sees it: constraints, migrations, damage, and what the user is told."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import pytest
from sqlalchemy import Engine, create_engine, event, insert

from auditsvc.adapters import sql
from auditsvc.adapters.ledger import SqlLedger
from auditsvc.adapters.ledger.schema import SCHEMA, metadata
from auditsvc.adapters.sql import upgrade
from auditsvc.errors import Conflict, InvalidInput, Unavailable
from auditsvc.records import AuditedData, Candidate, Digest, Record, Submission, Waiver, digest_of
from tests.adapters.unprivileged import read_only
from tests.contracts.sample import (
    a_candidate,
    a_decision,
    a_digest,
    a_retirement,
    a_submission,
    a_waiver,
    an_approval,
    one_of_each,
)
from tests.fakes import FixedClock

TABLES = (
    "record",
    "subject",
    "submission",
    "decision",
    "approval",
    "waiver",
    "revocation",
    "retirement",
    "release_rollback",
    "person",
    "leaf",
    "node",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[SqlLedger]:
    opened = _open(path)
    opened.append(*one_of_each(), actor="ann")
    yield opened
    opened.close()


@pytest.fixture
def raw(ledger: SqlLedger, path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection, with nothing switched on that the database doesn't switch on itself."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA foreign_keys=ON")
        yield connection


def _open(path: Path) -> SqlLedger:
    return SqlLedger(f"sqlite:///{path}", FixedClock())


@pytest.mark.parametrize("table", TABLES)
def test_no_program_changes_or_deletes_a_row(raw: sqlite3.Connection, table: str) -> None:
    before = raw.execute(f"SELECT * FROM {table}").fetchall()
    assert before
    column = raw.execute(f"SELECT name FROM pragma_table_info('{table}')").fetchone()[0]
    places = ", ".join("?" for _ in before[0])
    for statement, values in (
        (f"UPDATE {table} SET {column} = {column}", ()),
        (f"UPDATE OR REPLACE {table} SET {column} = {column}", ()),
        (f"DELETE FROM {table}", ()),
        (f"INSERT OR REPLACE INTO {table} VALUES ({places})", before[0]),
        (f"REPLACE INTO {table} VALUES ({places})", before[0]),
    ):
        with pytest.raises(sqlite3.IntegrityError):
            raw.execute(statement, values)
    assert raw.execute(f"SELECT * FROM {table}").fetchall() == before


def test_a_replacing_insert_cannot_take_another_unique_key(raw: sqlite3.Connection) -> None:
    """``INSERT OR REPLACE`` under a new primary key would delete the row that holds the same unique values."""
    kind, position = raw.execute("SELECT kind, position FROM record WHERE kind = 'submission'").fetchone()
    decision, candidate, submitter = raw.execute("SELECT decision, candidate, submitter FROM approval").fetchone()
    leaf_hash = raw.execute("SELECT hash FROM node WHERE level = 0").fetchone()[0]
    for statement, values in (
        ("INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", (a_digest(50), kind, b"{}", position)),
        (
            "INSERT OR REPLACE INTO approval VALUES (?, ?, ?, ?, ?)",
            (a_digest(50), decision, candidate, submitter, "BOB"),
        ),
        ("INSERT OR REPLACE INTO node VALUES (0, 1000, ?)", (leaf_hash,)),
    ):
        with pytest.raises(sqlite3.IntegrityError, match="there already"):
            raw.execute(statement, values)


def test_no_program_lets_one_person_be_two(raw: sqlite3.Connection) -> None:
    about = (a_decision().digest, a_decision().candidate)
    approve = "INSERT INTO approval VALUES (?, ?, ?, ?, ?)"
    for name, values in (
        ("two_people_approve", (a_digest(50), *about, "ann", "ann")),
        ("two_people_approve", (a_digest(50), *about, "ann", "Ann")),
        ("FOREIGN KEY", (a_digest(50), *about, "somebody else", "ann")),  # ann submitted it, whatever this row says
        ("FOREIGN KEY", (a_digest(50), a_digest(51), about[1], "ann", "cho")),
        ("one_approval_each", (a_digest(50), *about, "ann", "Bob")),
    ):
        with pytest.raises(sqlite3.IntegrityError, match=name):
            raw.execute(approve, values)
    with pytest.raises(sqlite3.IntegrityError, match="submission_once"):
        raw.execute("INSERT OR REPLACE INTO submission VALUES (?, 'cho')", (about[1],))
    with pytest.raises(sqlite3.IntegrityError, match="two_people_retire"):
        raw.execute("INSERT INTO retirement VALUES (?, 'ann', 'ANN')", (a_digest(50),))
    with pytest.raises(sqlite3.IntegrityError, match="two_people_roll_back"):
        raw.execute("INSERT INTO release_rollback VALUES (?, 'ann', 'ANN')", (a_digest(50),))
    waive = "INSERT INTO waiver VALUES (?, ?, ?, ?)"
    with pytest.raises(sqlite3.IntegrityError, match="two_people_waive"):
        raw.execute(waive, (a_digest(50), about[1], "ann", "Ann"))
    with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
        raw.execute(waive, (a_digest(50), about[1], "somebody else", "ann"))
    with pytest.raises(sqlite3.IntegrityError, match="two_people_revoke"):
        raw.execute("INSERT INTO revocation VALUES (?, ?, 'ann', 'ANN')", (a_digest(50), a_digest(7)))


@pytest.mark.parametrize("kind", ["approval", "decision", "waiver", "revocation", "retirement", "rollback"])
def test_no_program_adds_a_record_past_its_constraints(raw: sqlite3.Connection, kind: str) -> None:
    with pytest.raises(sqlite3.IntegrityError, match="guarded"):
        raw.execute("INSERT INTO record VALUES (?, ?, ?, 99)", (a_digest(60), kind, b"{}"))


OTHER_QUESTIONS: tuple[dict[str, Any], ...] = (
    {"candidate": a_digest(2)},
    {"policy": a_digest(-2)},
    {"terms": a_digest(3)},
    {"data": (AuditedData(name="d", digest=a_digest(4), images=1),)},
)


def refuses_superseded(ledger: SqlLedger, insert: Callable[[Digest, str, bytes], None], error: type[Exception]) -> None:
    """Check that a database refuses records about a superseded decision, and no others."""
    data = (AuditedData(name="d", digest=a_digest(5), images=1), AuditedData(name="e", digest=a_digest(6), images=1))
    first = a_decision().model_copy(update={"data": data, "terms": a_digest(9)})
    body = json.dumps({"decision": first.digest}).encode()
    ledger.append(first, *(first.model_copy(update=change) for change in OTHER_QUESTIONS), actor="ann")
    insert(a_digest(60), "release", body)
    renamed = tuple(one.model_copy(update={"name": "f"}) for one in data)
    ledger.append(first.model_copy(update={"data": renamed, "outcome": "rejected"}), actor="ann")
    for kind in ("release", "approval"):
        with pytest.raises(error, match="superseded"):
            insert(a_digest(61), kind, body)
    with pytest.raises(Conflict, match="superseded by a newer one"):
        ledger.append(an_approval(approver="cho", decision=first), actor="cho")


def test_no_program_approves_or_releases_a_superseded_decision(ledger: SqlLedger, raw: sqlite3.Connection) -> None:
    def insert(digest: Digest, kind: str, body: bytes) -> None:
        if kind == "approval":
            row = (digest, a_decision().digest, a_decision().candidate, "ann", "cho")
            raw.execute("INSERT INTO approval VALUES (?, ?, ?, ?, ?)", row)
        raw.execute("INSERT INTO record VALUES (?, ?, ?, 99)", (digest, kind, body))

    refuses_superseded(ledger, insert, sqlite3.IntegrityError)


def test_an_older_store_is_migrated_and_keeps_its_waivers(path: Path) -> None:
    """Waivers of the first revision had no row of their own; they are still read, and new ones are guarded."""
    path.parent.mkdir()
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection, SCHEMA, None, target="0001")
        old = a_waiver(person="ann")
        row = {"digest": old.digest, "kind": "waiver", "body": old.canonical(), "position": 0}
        connection.execute(insert(metadata.tables["record"]), row)
    engine.dispose()
    ledger = _open(path)
    assert list(ledger.all(Waiver)) == [old]
    with closing(sqlite3.connect(path)) as raw, pytest.raises(sqlite3.IntegrityError, match="guarded"):
        raw.execute("INSERT INTO record VALUES (?, 'waiver', ?, 99)", (a_digest(60), b"{}"))
    ledger.close()


def test_the_store_survives_a_crash_of_the_machine(ledger: SqlLedger) -> None:
    with ledger._database.read_tx() as connection:
        modes = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        ]
    assert modes == ["wal", 2, 1, 30_000]


def test_four_processes_open_a_new_store_at_once(path: Path) -> None:
    script = f"""
from auditsvc.adapters import sql
from auditsvc.adapters.ledger import SqlLedger
from tests.contracts.sample import a_candidate
from tests.fakes import FixedClock
import os
SqlLedger("sqlite:///{path}", FixedClock()).append(a_candidate(os.getpid()), actor="ann")
"""
    started = [subprocess.Popen([sys.executable, "-c", script]) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    assert len(list(_open(path).all(Candidate))) == 4


def test_a_body_that_was_tampered_with_is_not_believed(ledger: SqlLedger, raw: sqlite3.Connection) -> None:
    raw.execute("DROP TRIGGER record_no_update")
    raw.execute("UPDATE record SET body = replace(body, 'ann', 'eve') WHERE kind = 'submission'")
    for ask in (
        lambda: ledger.get(Submission, a_submission().digest),
        lambda: ledger.find(Submission, "net/1"),
        lambda: list(ledger.all(Submission)),
    ):
        with pytest.raises(Unavailable, match="damaged"):
            ask()


def test_a_damaged_file_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"this is no database at all" * 100)
    with pytest.raises(Unavailable, match=rf"{path} is not a database"):
        _open(path)


def test_a_file_that_was_cut_off_is_named(ledger: SqlLedger, path: Path) -> None:
    ledger.append(*(a_candidate(number) for number in range(500)), actor="ann")
    ledger.close()
    with path.open("r+b") as store:
        store.truncate(path.stat().st_size // 2)
    with pytest.raises(Unavailable, match=rf"{path} is damaged: restore it from a backup"):
        list(_open(path).all(Candidate))


def test_a_full_disk_keeps_what_was_there(ledger: SqlLedger, path: Path) -> None:
    ledger.close()

    def fill(connection: sqlite3.Connection, _: object) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 2}")

    event.listen(Engine, "connect", fill)
    try:
        small = _open(path)
        with pytest.raises(Unavailable, match="full disk: free some space"):
            small.append(*(a_candidate(number) for number in range(500)), actor="ann")
        small.close()
    finally:
        event.remove(Engine, "connect", fill)
    assert tuple(_open(path).all(Candidate)) == (a_candidate(),)


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    with read_only(tmp_path / "locked"):
        with pytest.raises(Unavailable, match=r"locked.*can't be opened: check that its folder"):
            _open(tmp_path / "locked" / "ledger.db")
        with pytest.raises(Unavailable, match=r"deeper.*can't be created: Permission denied"):
            _open(tmp_path / "locked" / "deeper" / "ledger.db")


def test_a_store_that_may_not_be_written_is_named(ledger: SqlLedger, path: Path) -> None:
    with read_only(path.parent):
        guest = _open(path)
        assert guest.get(Candidate, a_candidate().digest) == a_candidate()
        with pytest.raises(Unavailable, match=r"can't be written: give this user write access"):
            guest.append(a_candidate(1), actor="ann")
        guest.close()


def test_a_store_that_is_locked_says_so(
    ledger: SqlLedger, raw: sqlite3.Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "LOCK_TIMEOUT_S", 0.1)
    impatient = _open(path)
    raw.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked by another process"):
        impatient.append(a_candidate(1), actor="ann")
    assert impatient.get(Candidate, a_candidate().digest) == a_candidate()  # readers don't wait
    raw.execute("ROLLBACK")
    impatient.append(a_candidate(1), actor="ann")


@pytest.mark.parametrize("url", ["nonsense", "nosuchdatabase://x/y", ""])
def test_what_is_no_address_is_bad_input(url: str) -> None:
    with pytest.raises(InvalidInput, match="sqlite:///"):
        SqlLedger(url, FixedClock())


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(Unavailable, match="can't be reached") as caught:
        SqlLedger("postgresql+psycopg://me:secret@127.0.0.1:9/x", FixedClock())
    assert "secret" not in str(caught.value)


def test_an_approval_that_is_refused_leaves_no_event(ledger: SqlLedger) -> None:
    size, root = ledger.size(), ledger.root(ledger.size())
    with pytest.raises(Conflict):
        ledger.append(a_candidate(5), an_approval(approver="ann"), actor="ann")
    assert (ledger.size(), ledger.root(ledger.size())) == (size, root)


def test_a_refusal_says_which_check_of_the_ledger_failed(ledger: SqlLedger) -> None:
    """The constraints refuse these too; the message is what tells a person what to do."""
    for refused, words in (
        (a_retirement("ann", None), "a key change needs two people"),
        (an_approval(0, "cho", decision=a_decision(1)), f"has no decision {a_decision(1).digest} about the candidate"),
        (an_approval(1), f"the candidate {a_digest(1)} was never submitted: submit it first"),
        (a_waiver(1), f"the candidate {a_digest(1)} was never submitted: submit it first"),
    ):
        with pytest.raises(Conflict, match=words):
            ledger.append(refused, actor="ann")


def test_the_position_of_a_record_is_that_of_its_event(ledger: SqlLedger) -> None:
    ledger.append(*(a_candidate(number) for number in range(1, 4)), actor="ann")
    ledger.append(a_candidate(9), a_candidate(8), actor="ann")
    found = ledger.page(Candidate)
    assert [one for _, one in found] == [a_candidate(number) for number in (8, 9, 3, 2, 1, 0)]
    assert [place for place, _ in found] == [ledger.leaf_index(one.digest) for _, one in found]
    assert [place for place, _ in ledger.page(Candidate, subject="net")] == [place for place, _ in found]


class Remark(Record):
    """A record about what it was told, which may be nothing, or one thing twice."""

    kind: ClassVar[str] = "remark"
    event: ClassVar[str] = "remark.made"

    about: tuple[str, ...]

    def subjects(self) -> tuple[str, ...]:
        return self.about


def test_a_record_may_be_about_nothing_or_name_one_subject_twice(ledger: SqlLedger) -> None:
    nothing, twice = Remark(about=()), Remark(about=("net", "net", "other"))
    ledger.append(nothing, actor="ann")
    ledger.append(twice, actor="ann")
    assert (ledger.find(Remark, "net"), ledger.find(Remark, "other")) == ((twice,), (twice,))
    assert list(ledger.all(Remark)) == [nothing, twice]


def test_a_record_of_a_newer_kind_is_refused_with_the_place_of_its_store(
    ledger: SqlLedger, raw: sqlite3.Connection, path: Path
) -> None:
    body = b'{"apiVersion":"99","kind":"candidate"}'
    raw.execute("INSERT INTO record VALUES (?, 'candidate', ?, 99)", (digest_of(body), body))
    with pytest.raises(Unavailable, match=rf"the ledger at .*{path.name} holds a record that this auditsvc can't read"):
        ledger.get(Candidate, digest_of(body))


def test_a_look_up_loads_nothing_heavy(ledger: SqlLedger, path: Path) -> None:
    """The gate's command answers well under a second."""
    script = f"""
import sys
from auditsvc.adapters import sql
from auditsvc.adapters.ledger import SqlLedger
from auditsvc.records import Submission
assert len(SqlLedger("sqlite:///{path}", None).find(Submission, "net/1")) == 1
print([name for name in ("alembic", "cryptography", "mlflow", "numpy", "torch") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"
