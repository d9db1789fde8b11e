"""A copy taken while somebody writes is a whole store; an old one is noticed before it signs anything."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from auditsvc.adapters.backup import back_up
from auditsvc.adapters.blobs import FileBlobs
from auditsvc.adapters.file_keys import FileKeys
from auditsvc.adapters.ledger import SqlLedger
from auditsvc.errors import Conflict, NotFound, Unavailable
from auditsvc.provenance.signer.checkpoints import CheckpointStore
from auditsvc.records import Candidate
from tests.contracts.sample import a_candidate
from tests.fakes import FixedClock


def a_ledger(store: Path) -> SqlLedger:
    return SqlLedger(f"sqlite:///{store}/ledger.db", FixedClock())


def published(store: Path, ledger: SqlLedger) -> CheckpointStore:
    return CheckpointStore(store / "checkpoint", FileKeys(store / "keys"), ledger)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three records, a blob, keys, and a checkpoint that was shown to somebody."""
    made = tmp_path / "store"
    made.mkdir()
    ledger = a_ledger(made)
    ledger.append(*(a_candidate(number) for number in range(3)), actor="ann")
    FileBlobs(made / "blobs").put(b"weights")
    published(made, ledger).current()
    ledger.close()
    return made


def test_what_is_restored_is_what_was_there(store: Path, tmp_path: Path) -> None:
    before = a_ledger(store)
    size, root = before.size(), before.root(before.size())
    before.close()
    back_up(store, tmp_path / "copy")
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "copy", store)
    after = a_ledger(store)
    assert (after.size(), after.root(size)) == (size, root)
    assert list(after.all(Candidate)) == [a_candidate(number) for number in range(3)]
    assert sum(path.is_file() for path in (store / "blobs").rglob("*")) == 1
    published(store, after).guard()
    after.close()


def test_a_ledger_from_an_old_copy_signs_nothing(store: Path, tmp_path: Path) -> None:
    back_up(store, tmp_path / "old")
    ledger = a_ledger(store)
    ledger.append(a_candidate(9), actor="ann")
    published(store, ledger).current()
    ledger.close()
    for name in ("ledger.db-wal", "ledger.db-shm"):
        (store / name).unlink(missing_ok=True)
    shutil.copy2(tmp_path / "old" / "ledger.db", store / "ledger.db")
    restored = a_ledger(store)
    with pytest.raises(Conflict):
        published(store, restored).guard()
    restored.close()


WRITER = """
import sys
from itertools import count
from auditsvc.adapters.ledger import SqlLedger
from tests.contracts.sample import a_candidate
from tests.fakes import FixedClock
ledger = SqlLedger("sqlite:///" + sys.argv[1] + "/ledger.db", FixedClock())
for number in count(100):
    ledger.append(a_candidate(number), actor="ann")
    print(number, flush=True)
"""


def test_a_copy_that_is_taken_while_somebody_writes_is_whole(store: Path, tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(store)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        drained = threading.Thread(target=writer.stdout.read)
        drained.start()
        back_up(store, tmp_path / "copy")
        writer.kill()
        drained.join()
    copy = a_ledger(tmp_path / "copy")
    size = copy.size()
    assert len(list(copy.all(Candidate))) == size > 3
    assert copy.consistency(3, size) is not None
    published(tmp_path / "copy", copy).guard()
    copy.close()


def test_a_copy_takes_no_place_that_is_taken_and_needs_a_store(store: Path, tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="there already"):
        back_up(store, store)
    with pytest.raises(NotFound, match="no store"):
        back_up(tmp_path / "nowhere", tmp_path / "copy")


def test_a_copy_that_fails_half_way_is_not_there(store: Path, tmp_path: Path) -> None:
    (store / "access.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(Unavailable, match="can't be copied"):
        back_up(store, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_data_sets_and_locks_are_left_out(store: Path, tmp_path: Path) -> None:
    for name in ("data", "workers"):
        (store / name).mkdir()
    assert set(back_up(store, tmp_path / "copy")) == {"ledger.db", "blobs", "keys", "checkpoint"}
