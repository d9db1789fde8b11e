"""Workers that are killed at random: no job is lost, nothing is there twice, all digests are those of a calm run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.postgres import new_database
from tests.bench.kills import POLICIES, trial

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def test_killed_workers_lose_nothing_and_do_nothing_twice(database: str, tmp_path: Path) -> None:
    url = new_database() if database == "postgres" else ""
    found = trial(url, 1, 7, tmp_path, POLICIES[:2])
    assert isinstance(found["kills"], int) and found["kills"] >= 1
    assert (found["lost"], found["doubled"], found["digest_changes"]) == (0, 0, 0)
