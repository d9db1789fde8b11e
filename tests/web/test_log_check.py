"""A ledger that does not follow from its log answers no gate query: over HTTP, on the command line, at a release."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient
from typer.testing import CliRunner

from auditsvc.bootstrap import open_context
from auditsvc.cli.app import app
from auditsvc.errors import LogMismatch
from auditsvc.records import Revocation
from auditsvc.services.log_check import check_log
from auditsvc.settings import Settings
from auditsvc.web import create_app
from auditsvc.web.app import open_site
from auditsvc.web.state import ProjectState
from tests.fakes import NOON
from tests.web import sample
from tests.web.conftest import LOOPBACK

GATE = "/v1/gate?model=net&version=1"
RECALL = Revocation(
    release=sample.released().digest, reason="a flaw", requested_by="ann", confirmed_by="bob", at=NOON
)  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A store with a release that was revoked."""
    made = Settings(store=tmp_path / "store", workers=0, registry_poll_s=0)
    ledger = open_context(made, create=True).ledger
    sample.fill(ledger)  # type: ignore[arg-type]
    ledger.append(RECALL, actor="bob")
    return made


@pytest.fixture
def serving(settings: Settings) -> Iterator[ProjectState]:
    site = open_site(settings, "127.0.0.1")
    yield site
    site.close()


def hide_revocation(store: Path) -> None:
    """What a person with write access to the database file can do to bring a revoked release back."""
    with closing(sqlite3.connect(store / "ledger.db", isolation_level=None)) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f"DROP TRIGGER {name}")
        for table in ("subject", "revocation", "record"):
            raw.execute(f"DELETE FROM {table} WHERE digest = ?", (RECALL.digest,))


def _client(site: ProjectState) -> TestClient:
    return TestClient(create_app(site), "http://127.0.0.1", client=LOOPBACK, raise_server_exceptions=False)


def test_the_service_refuses_from_the_next_query_on(serving: ProjectState, settings: Settings) -> None:
    client = _client(serving)
    assert client.get(GATE).json()["answer"] == "revoked"
    assert client.get("/readyz").json()["status"] == "ready"
    hide_revocation(settings.store)
    got = client.get(GATE)
    assert (got.status_code, got.json()["code"]) == (503, "log-mismatch")
    assert "(release.revoked)" in got.json()["detail"]
    assert client.get("/readyz").json()["code"] == "log-mismatch"
    assert 'auditsvc_log_faults{project="main"} 1.0' in client.get("/metrics").text


def test_the_service_finds_at_its_start_what_was_hidden_before(settings: Settings) -> None:
    hide_revocation(settings.store)
    site = open_site(settings, "127.0.0.1")
    assert _client(site).get(GATE).json()["code"] == "log-mismatch"
    site.close()


def test_the_command_line_refuses(settings: Settings) -> None:
    runner = CliRunner()
    checked = runner.invoke(app, ["log", "check", "--store", str(settings.store)])
    assert checked.exit_code == 0, checked.output
    hide_revocation(settings.store)
    found = runner.invoke(app, ["log", "check", "--store", str(settings.store), "--json"])
    (fault,) = json.loads(found.stdout)["faults"]
    assert found.exit_code == 4 and RECALL.digest in fault
    asked = runner.invoke(app, ["gate", "net", "1", "--store", str(settings.store)])
    assert asked.exit_code == 4 or isinstance(asked.exception, LogMismatch)


def test_a_log_that_was_cut_is_found_by_its_published_checkpoint(serving: ProjectState, settings: Settings) -> None:
    serving.check_log()  # publishes the log
    hide_revocation(settings.store)
    with closing(sqlite3.connect(settings.store / "ledger.db", isolation_level=None)) as raw:
        size = raw.execute("SELECT max(idx) FROM leaf").fetchone()[0]
        raw.execute("DELETE FROM leaf WHERE idx = ?", (size,))
        for level in range(40):
            raw.execute("DELETE FROM node WHERE level = ? AND idx > ?", (level, (size >> level) - 1))
    (fault,) = check_log(serving.ctx).faults
    assert "LOG_FORK_GUARD" in fault
