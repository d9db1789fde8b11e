"""Killed writers and many writers: nothing half-written, nothing lost, nothing twice."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from auditsvc.adapters.ledger import SqlLedger
from auditsvc.provenance.formats import merkle_log
from auditsvc.records import Candidate, Submission
from tests.adapters.killing import kill_during
from tests.adapters.postgres import new_database
from tests.fakes import FixedClock

APPEND_FOR_EVER = """
from itertools import count
from auditsvc.adapters.ledger import SqlLedger
from tests.contracts.sample import a_candidate, a_submission
from tests.fakes import FixedClock
ledger = SqlLedger("{url}", FixedClock())
print("ready")
for number in count():
    ledger.append(a_candidate(number), a_submission(number), actor="ann")
    print(number)
    ledger.append_leaf(b"entry %d" % number)
"""

APPEND_SOME = """
import sys
from auditsvc.adapters.ledger import SqlLedger
from tests.contracts.sample import a_candidate, a_submission
from tests.fakes import FixedClock
ledger = SqlLedger("{url}", FixedClock())
for number in range(25):
    ledger.append(a_submission(number), a_candidate(1000 * int(sys.argv[1]) + number), actor="ann")
    ledger.append_leaf(b"entry %d" % number)
"""


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))])
def test_a_killed_writer_leaves_whole_appends_only(tmp_path: Path, seed: int) -> None:
    url = f"sqlite:///{tmp_path}/ledger.db"
    said = kill_during(APPEND_FOR_EVER.format(url=url), within_s=0.3, seed=seed)
    ledger = SqlLedger(url, FixedClock())
    candidates, submissions = list(ledger.all(Candidate)), list(ledger.all(Submission))
    assert len(candidates) == len(submissions) >= len(said.split())  # what was said to be there is there
    _is_whole(ledger)
    ledger.append_leaf(b"life goes on")
    _is_whole(ledger)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/ledger.db"


def test_two_processes_lose_nothing_and_log_nothing_twice(url: str) -> None:
    command = [sys.executable, "-c", APPEND_SOME.format(url=url)]
    started = [subprocess.Popen([*command, str(worker)]) for worker in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    ledger = SqlLedger(url, FixedClock())
    assert len(list(ledger.all(Candidate))) == 50
    assert len(list(ledger.all(Submission))) == 25
    assert ledger.size() == 50 + 25 + 25
    _is_whole(ledger)
    ledger.close()


def _is_whole(ledger: SqlLedger) -> None:
    """The log has no gap and no double, its nodes fit its leaves, and each record has its own event."""
    size = ledger.size()
    leaves = [ledger.leaf(index) for index in range(size)]
    assert len(set(leaves)) == size
    nodes: dict[tuple[int, int], bytes] = {}
    for index, data in enumerate(leaves):
        made = list(merkle_log.completed(index, merkle_log.leaf_hash(data), lambda level, at: nodes[level, at]))
        nodes.update({(level, at): value for level, at, value in made})
    assert ledger.root(size) == merkle_log.root(size, lambda level, at: nodes[level, at])
    events = [json.loads(data)["object"] for data in leaves if data.startswith(b"{")]
    records = [one.digest for kind in (Candidate, Submission) for one in ledger.all(kind)]
    assert sorted(events) == sorted(records)
