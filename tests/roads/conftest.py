"""Models that were trained once, one store for all roads, and the command line in this process."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from auditsvc.cli import main
from auditsvc.services import audit_file
from tests.roads import small

QUICK = """
policy: quick
version: 1
why: Accuracy alone, so that a road takes seconds.
seed: 7
checks:
  accuracy: {version: 1}
rules:
  - {rule: loss, reading: accuracy/drop.clean, at_most: 0.2, why: a margin that some hundred images can show}
"""
"""In place of the shipped policies, with which a road takes a minute."""


@dataclass
class Person:
    """Somebody with a folder of files; ``commands`` counts what they call, ``written`` what they write for us."""

    folder: Path
    commands: int = 0
    written: set[str] = field(default_factory=set)

    def call(self, *words: str, code: int | None = None) -> dict[str, Any]:
        """One command with ``--json`` in their folder; its answer."""
        self.commands += 1
        status, out, err = run(self.folder, *words, "--json")
        assert code is None or status == code, out + err
        answer: dict[str, Any] = json.loads(out)
        return answer


def run(folder: Path, *words: str) -> tuple[int, str, str]:
    """One command in this process: exit code, output, messages."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(folder)
        patch.setattr("sys.argv", ["auditsvc", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    return int(ended.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture(scope="session")
def networks() -> tuple[nn.Module, nn.Module]:
    """The dense network and the pruned one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dense = small.trained()
    torch.set_num_threads(threads)
    return dense, small.pruned(dense, 0.8)


@pytest.fixture(scope="session")
def pictures() -> small.Pictures:
    """Images that no network was trained on."""
    return small.pictures(160, 5)


@pytest.fixture(scope="session")
def _store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("roads")


def quick(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """A store in this folder, and a quick policy in place of the shipped ones."""
    patch.setenv("AUDITSVC_STORE", str(folder / "store"))
    for name in ("AUDITSVC_ARCHITECTURES", "AUDITSVC_ARCHITECTURES_DIR"):
        patch.setenv(name, "")  # put back what a command sets
    (folder / "quick.yaml").write_text(QUICK)
    patch.setattr(audit_file, "default_policy", lambda _task: str(folder / "quick.yaml"))


@pytest.fixture
def person(tmp_path: Path, _store: Path, monkeypatch: pytest.MonkeyPatch) -> Person:
    """A person in an empty folder; the shipped policies are replaced by a quick one."""
    quick(monkeypatch, _store)
    folder = tmp_path / "files"
    folder.mkdir()
    return Person(folder)
