"""The fixture ``remembered`` for modules whose tests run on SQLite and on PostgreSQL: import it there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adapters.postgres import new_database


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def remembered(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/access.db"
