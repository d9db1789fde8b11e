"""The command line in this process: what a test needs that is not about processes, seconds faster than a new one."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from auditsvc.cli import main


def command(*words: object, cwd: Path | None = None, **environment: str) -> CompletedProcess[str]:
    """One command: its exit code, output and messages, as ``subprocess.run`` gives them."""
    out, err = io.StringIO(), io.StringIO()
    given = [str(word) for word in words]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        if cwd is not None:
            patch.chdir(cwd)
        for name, value in ({"COLUMNS": "200"} | environment).items():
            patch.setenv(name, value)
        patch.setattr("sys.argv", ["auditsvc", *given])
        with pytest.raises(SystemExit) as ended:
            main()
    return CompletedProcess(given, int(ended.value.code or 0), out.getvalue(), err.getvalue())
