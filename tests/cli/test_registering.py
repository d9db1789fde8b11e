"""The register of incidents from the command line: what is known, what is due, who was told, who watched."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from auditsvc.adapters.ledger import SqlLedger
from auditsvc.cli import main
from auditsvc.compliance.assessment.attestations import period_end
from tests.contracts.sample import a_parent
from tests.fakes import FixedClock

PARENT = a_parent()
NOW = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
YESTERDAY = (NOW - datetime.timedelta(days=1)).isoformat()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    ledger = SqlLedger(f"sqlite:///{folder / 'ledger.db'}", FixedClock())
    ledger.append(PARENT, actor="ann")
    ledger.close()
    return folder


def run(store: Path, *words: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr("sys.argv", ["auditsvc", *words, "--store", str(store)])
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def test_an_incident_is_due_until_the_authority_was_told(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = PARENT.model
    facts = ("--harm", "widespread", "--aware", YESTERDAY, "--description", "It failed everywhere.", "--as", "ada")
    code, out = run(store, "incident", "add", name, *facts, "--json", capsys=capsys)
    made = json.loads(out)
    aware = datetime.datetime.fromisoformat(YESTERDAY)
    assert code == 0 and made["reminder"] == (aware + datetime.timedelta(2)).isoformat()
    assert made["due"] == period_end(aware, 2).isoformat() > made["reminder"]
    assert f"due {made['due']}" in run(store, "incident", "list", name, capsys=capsys)[1]
    told = ("--authority", "The authority", "--at", NOW.isoformat(), "--as", "ada")
    assert "in time" in run(store, "incident", "report", made["incident"], *told, capsys=capsys)[1]
    assert "reported to The authority" in run(store, "incident", "list", name, capsys=capsys)[1]


def test_a_watch_is_said_and_listed(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    days = ("--since", "2026-01-01", "--until", "2026-01-31", "--description", "Asked the help desk.", "--as", "ada")
    assert "there is no incident watch" in run(store, "incident", "list", PARENT.model, capsys=capsys)[1]
    assert run(store, "incident", "watch", PARENT.model, *days, capsys=capsys)[0] == 0
    assert "ada watched from 2026-01-01 to 2026-01-31" in run(store, "incident", "list", PARENT.model, capsys=capsys)[1]


@pytest.mark.parametrize(
    "words",
    [
        ("add", "nobody", "--harm", "death", "--aware", "2026-01-01", "--description", "x", "--as", "ada"),
        ("add", PARENT.model, "--harm", "rain", "--aware", "2026-01-01", "--description", "x", "--as", "ada"),
        ("add", PARENT.model, "--harm", "death", "--aware", "noon", "--description", "x", "--as", "ada"),
        ("watch", PARENT.model, "--since", "1.1.", "--until", "2026-01-31", "--description", "x", "--as", "ada"),
    ],
)
def test_bad_input_is_refused(store: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert run(store, "incident", *words, capsys=capsys)[0] == 2
