"""A clean process: isolated Python, an environment without secrets, its own folder, a time limit.

The child gets a job as JSON in its folder and answers with one JSON line for each finished part.  Tensors pass
through safetensors files in the same folder; nothing is pickled in either direction.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import auditsvc
from auditsvc.errors import Unavailable

_ROOT = str(Path(auditsvc.__file__).parents[1])
_START = (
    "import runpy, sys; root, module = sys.argv[1:3]; root in sys.path or sys.path.insert(0, root); "
    "sys.argv[1:] = sys.argv[3:]; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)
"""Isolated mode (``-I``) hides the working folder, so the child is told where this very code lies."""

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT")
MAX_LINE = 2**20


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="auditsvc-clean-") as name:
        yield Path(name)


def run_clean(
    module: str, job: Mapping[str, Any], folder: Path, *, seconds: float, told: Callable[[], None] = lambda: None
) -> tuple[dict[str, Any], ...]:
    """The answers of ``python -I -m module`` to this job, in order; ``told`` is called after each.

    Raises:
        Unavailable: the child ran out of time, died, or answered nonsense; its last words are quoted.
    """
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    command = [sys.executable, "-I", "-X", "utf8", "-c", _START, _ROOT, module, str(folder / "job.json")]
    with (folder / "stderr.txt").open("wb") as errors:
        child = subprocess.Popen(  # noqa: S603 - our own interpreter and module, no shell
            command, cwd=folder, env=_environment(folder), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=errors, start_new_session=True,
        )  # fmt: skip
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(child)

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        answers = tuple(_answers(child, told))
        code = child.wait()
    finally:
        timer.cancel()
        _kill(child)
        child.wait()
        if child.stdout:
            child.stdout.close()
    if late.is_set():
        raise Unavailable(f"the clean process ({module}) was stopped after {seconds:g} s; try a smaller model or batch")
    if code != 0:
        raise Unavailable(f"the clean process ({module}) ended with {code}: {_last_words(folder)}")
    return answers


def _environment(folder: Path) -> dict[str, str]:
    """The least that a process needs: no token, key or password of ours is in it."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed | {"HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""}


def _answers(child: subprocess.Popen[bytes], told: Callable[[], None]) -> Iterator[dict[str, Any]]:
    if child.stdout is None:
        return
    while line := child.stdout.readline(MAX_LINE):
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise Unavailable(f"the clean process answered {line[:80]!r}, which is not JSON") from error
        yield answer
        told()


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End the child and all that it started; nothing is left behind."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _last_words(folder: Path) -> str:
    text = (folder / "stderr.txt").read_text("utf-8", errors="replace").strip()
    return text.splitlines()[-1][:300] if text else "it said nothing"
