"""``Ledger.page``: newest first, by position, for the fake and the adapter alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditsvc.adapters.ledger import SqlLedger
from auditsvc.ports import Ledger
from auditsvc.records import Candidate, Submission
from tests.contracts.sample import a_candidate, a_submission
from tests.fakes import FixedClock, MemoryLedger


@pytest.fixture(params=["memory", "sqlite"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    if request.param == "memory":
        return MemoryLedger()
    return SqlLedger(f"sqlite:///{tmp_path / 'ledger.db'}", FixedClock())


def test_pages_follow_each_other_newest_first_and_miss_nothing(ledger: Ledger) -> None:
    made = [a_candidate(number, model) for number in range(5) for model in ("net", "other")]
    for number, one in enumerate(made):
        ledger.append(one, a_submission(number), actor="ann")
    seen: list[Candidate] = []
    before = None
    while page := ledger.page(Candidate, before=before, limit=3):
        seen += [one for _, one in page]
        before = page[-1][0]
    assert seen == made[::-1]
    found = [one for _, one in ledger.page(Candidate, subject="net")]
    assert found == [one for one in made[::-1] if one.model == "net"]
    assert ledger.page(Submission, subject="nobody/1") == ()
