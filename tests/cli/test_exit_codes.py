"""Exit code 1 means rejected; nothing that goes wrong in the tool or around it may end with it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from auditsvc.cli import _run
from auditsvc.errors import InvalidInput

FULL = Path("/dev/full")
CLI = [sys.executable, "-m", "auditsvc"]


def code_of(error: BaseException) -> int:
    app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)

    @app.command()
    def command() -> None:
        raise error

    old, sys.argv = sys.argv, ["auditsvc"]
    try:
        with pytest.raises(SystemExit) as caught:
            _run(lambda: app)
    finally:
        sys.argv = old
    return int(caught.value.code or 0)


@pytest.mark.parametrize(
    ("error", "code"),
    [(KeyError("layer"), 4), (TypeError("torch.float8_e4m3fn"), 4), (MemoryError(), 4), (RecursionError("deep"), 4),
     (OSError(errno.ENOSPC, "No space left on device"), 4), (OSError(errno.EPIPE, "Broken pipe"), 4),
     (UnicodeEncodeError("ascii", "é", 0, 1, "ordinal not in range"), 4), (EOFError(), 2), (typer.Abort(), 2),
     (InvalidInput("no"), 2), (typer.Exit(1), 1), (typer.Exit(3), 3), (typer.Exit(0), 0), (KeyboardInterrupt(), 130)],
)  # fmt: skip
def test_only_a_command_itself_ends_with_one(error, code, capfd):
    assert code_of(error) == code
    if code == 4:
        err = capfd.readouterr().err
        assert err.count("\n") <= 1 and "Traceback" not in err


def test_a_crash_names_exception_and_is_json_where_json_was_asked_for(monkeypatch, capsys):
    assert code_of(KeyError("layer")) == 4
    assert "failed: KeyError: 'layer'" in capsys.readouterr().err
    monkeypatch.setattr("auditsvc.cli.output.wants_json", lambda: True)
    assert code_of(KeyError("layer")) == 4
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "failed"


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
def test_output_on_a_full_disk_is_a_failure_in_one_line():
    with FULL.open("w") as full:
        done = subprocess.run([*CLI, "policy", "explain", "standard"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 4
    assert done.stderr.count("\n") == 1 and "No space left" in done.stderr


@pytest.mark.slow
def test_a_closed_pipe_is_quiet():
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([*CLI, "policy", "explain", "standard"], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (4, "")


@pytest.mark.slow
def test_a_name_in_other_letters_than_the_output_has_is_no_error(tmp_path):
    environment = os.environ | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*CLI, "policy", "check", tmp_path / "Bogotá.yaml"], capture_output=True, env=environment)
    assert done.returncode == 2
    assert b"Bogot\\xe1.yaml" in done.stderr
