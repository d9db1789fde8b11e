"""Clean child processes: isolated Python, an environment without secrets, a separate folder, a time limit.

The child reads a job as JSON from its folder and writes one JSON line for each finished part.  Tensors pass through
safetensors files in the same folder; nothing is pickled in either direction.  ``run_clean`` runs one job to its end
in a child of the fork server (``fork_server``: torch is imported once for all jobs), ``CleanSession`` keeps a child for
many requests.

Also the files that a model folder may hold, by name, size and content: a pickle named ``model.safetensors`` is
refused as a pickle.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import auditsvc
from auditsvc.errors import Unavailable
from auditsvc.models import CARD, WEIGHTS
from auditsvc.models.model_files import HEAD_BYTES, TFLITE_MAGIC, foreign

ONNX = "model.onnx"
"""Alongside weights: the same model for other runtimes, exported by auditsvc from these weights.  Without weights: the
model itself, which ONNX Runtime runs as it is (``importing.onnx_session``)."""

TFLITE = "model.tflite"
FOR_RUNTIMES = (ONNX, "model.xml", "model.bin", TFLITE, "model.mnn")
"""Alongside weights or an ONNX file, the same model for other runtimes: OpenVINO (two files), LiteRT, MNN.  An audit
runs each of them on all images."""

LIMITS: dict[str, int] = {
    WEIGHTS: 4 * 2**30,
    CARD: 16 * 2**20,
    **dict.fromkeys(FOR_RUNTIMES, 4 * 2**30),
    "LICENSE": 2**20,
    "NOTICE": 2**20,
    "NOTE.md": 2**20,
    "README.md": 2**20,
}
"""The files that a model folder may hold, and how many bytes each may have."""


def is_model_folder(folder: Path) -> bool:
    """Whether a folder has a card, and the weights or the ONNX file that the card describes."""
    return (folder / CARD).is_file() and any((folder / name).is_file() for name in (WEIGHTS, ONNX))


def inspect_folder(folder: Path) -> tuple[str, ...]:
    """Every reason against the files of this folder; none means that they may be loaded."""
    if not folder.is_dir():
        return (f"{folder} is not a folder",)
    paths = sorted(folder.iterdir())
    names = {path.name for path in paths}
    reasons = [f"{CARD} is missing"] if CARD not in names else []
    reasons += [f"{WEIGHTS} is missing"] if not names & {WEIGHTS, ONNX} else []
    return (*reasons, *(reason for path in paths for reason in _faults(path)))


def _faults(path: Path) -> list[str]:
    if path.is_symlink() or not path.is_file():
        return [f"{path.name} is not a plain file; links and folders are not admitted"]
    with path.open("rb") as stream:
        head = stream.read(HEAD_BYTES)
    if path.name == TFLITE and head[4:8] != TFLITE_MAGIC:
        return [f"{path.name} is not a TensorFlow Lite model"]
    if path.name != TFLITE and (reason := foreign(head, path.name, path)):
        return [reason]
    limit = LIMITS.get(path.name)
    if limit is None:
        return [f"{path.name} is not a file of a model folder; admitted are {', '.join(LIMITS)}"]
    size = path.stat().st_size
    return [f"{path.name} has {size} bytes; at most {limit} are admitted"] if size > limit else []


_ROOT = str(Path(auditsvc.__file__).parents[1])
"""Isolated mode (``-I``) hides the working folder, so the child gets the location of this package."""

_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "SYSTEMROOT", "AUDITSVC_ARCHITECTURES", "AUDITSVC_ARCHITECTURES_DIR")
MAX_LINE = 2**20
SERVER_SECONDS = 120
"""In which the fork server must have started and forked."""


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of its own, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="auditsvc-clean-") as name:
        yield Path(name)


def run_clean(
    module: str, job: Mapping[str, Any], folder: Path, *, seconds: float, on_answer: Callable[[], None] = lambda: None
) -> tuple[dict[str, Any], ...]:
    """The answers of ``python -I -m module`` to this job, in order; ``on_answer`` is called after each.

    Raises:
        Unavailable: the child ran out of time, died, or answered nonsense; its last words are quoted.
    """
    child = _fork(module, job, folder)
    late = threading.Event()

    def stop() -> None:
        late.set()
        _kill(child)

    timer = threading.Timer(seconds, stop)
    timer.start()
    try:
        answers = tuple(_answers(child, on_answer))
        code = child.wait()
    finally:
        timer.cancel()
        _kill(child)
        child.wait()
        child.stdout.close()
    if late.is_set():
        raise Unavailable(f"the clean process ({module}) was stopped after {seconds:g} s; try a smaller model or batch")
    if code != 0:
        raise Unavailable(f"the clean process ({module}) ended with {code}: {_last_words(folder)}")
    return answers


@dataclass
class _Forked:
    """A child of the fork server."""

    pid: int
    stdout: IO[bytes]
    _code: IO[bytes]
    _ended: int | None = None

    def wait(self) -> int:
        """The exit code, when there is one; negative: the signal that ended it."""
        if self._ended is None:
            with self._code:
                self._ended = int(self._code.read() or -signal.SIGKILL)  # nothing: the server was killed too
        return self._ended


_servers: dict[int, socket.socket] = {}
"""The fork server of this process, by process: a forked worker starts its own."""

_asking = threading.Lock()


def _fork(module: str, job: Mapping[str, Any], folder: Path) -> _Forked:
    """A clean child with its job in a file of ``folder``, forked where torch is imported already."""
    path = folder / "job.json"
    path.write_text(json.dumps(job), "utf-8")
    request = {"root": _ROOT, "module": module, "job": str(path), "folder": str(folder)}
    message = json.dumps(request | {"environment": _environment(folder)}).encode()
    (answers, out), (status, code) = os.pipe(), os.pipe()
    with (folder / "stderr.txt").open("wb") as errors:
        try:
            pid = _ask_server(message, [out, errors.fileno(), code])
        except BaseException:
            os.close(answers)
            os.close(status)
            raise
        finally:
            os.close(out)
            os.close(code)
    return _Forked(pid, os.fdopen(answers, "rb"), os.fdopen(status, "rb"))


def _ask_server(message: bytes, descriptors: list[int]) -> int:
    """The number of the child; a server that was killed is started again, once."""
    with _asking:
        for _ in range(2):
            server = _servers.get(os.getpid()) or _start_server()
            with suppress(OSError):
                socket.send_fds(server, [message], descriptors)
                if pid := server.recv(32):
                    return int(pid)
            _servers.pop(os.getpid()).close()
    raise Unavailable("clean processes can't be started: the process that forks them ends at once")


def _start_server() -> socket.socket:
    ours, theirs = socket.socketpair()
    with theirs:
        subprocess.Popen(  # noqa: S603 - our own interpreter and script, no shell
            [sys.executable, "-I", "-X", "utf8", str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())],
            env=_environment(Path(tempfile.gettempdir())), stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    ours.settimeout(SERVER_SECONDS)
    _servers[os.getpid()] = ours
    return ours


class CleanSession:
    """A clean child that answers one request after another until it is closed or collected; started when first asked.

    ``script`` is run by path, so that it imports nothing but what it names and starts in a fraction of a second.  Both
    the first request (the job itself) and each later one get one JSON line.
    """

    def __init__(self, script: Path, job: Mapping[str, Any]) -> None:
        self._script, self._job = script, job
        self._scratch = tempfile.TemporaryDirectory(prefix="auditsvc-clean-")
        self.folder = Path(self._scratch.name)
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._first: dict[str, Any] = {}

    def start(self, *, seconds: float) -> dict[str, Any]:
        """The child's answer to its job; the same one when asked again.  Raises as ``ask``."""
        with self._lock:
            if self._child is None:
                self._child = _start(self._script, self._job, self.folder)
                weakref.finalize(self, _end, self._child)
                self._first = self._read(self._child, seconds)
            return self._first

    def ask(self, request: Mapping[str, Any], *, seconds: float) -> dict[str, Any]:
        """The child's answer to one request.

        Raises:
            Unavailable: it ran out of time, died, or answered something that is not JSON.
        """
        self.start(seconds=seconds)
        with self._lock:
            child = self._child
            if child is None or child.stdin is None:
                raise Unavailable("the clean process has no input")
            try:
                child.stdin.write(json.dumps(request).encode() + b"\n")
                child.stdin.flush()
            except OSError as error:
                raise Unavailable(f"the clean process ended: {_last_words(self.folder)}") from error
            return self._read(child, seconds)

    def _read(self, child: subprocess.Popen[bytes], seconds: float) -> dict[str, Any]:
        timer = threading.Timer(seconds, _kill, (child,))
        timer.start()
        try:
            answer = next(_answers(child, lambda: None), None)
        finally:
            timer.cancel()
        if answer is None:
            code = child.wait()
            why = "out of time or memory" if code == -signal.SIGKILL else f"with {code}"
            raise Unavailable(f"the clean process ({self._script.stem}) ended {why}: {_last_words(self.folder)}")
        return answer


def _end(child: subprocess.Popen[bytes]) -> None:
    _kill(child)
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream:
            with suppress(OSError):
                stream.close()


def _start(script: Path, job: Mapping[str, Any], folder: Path) -> subprocess.Popen[bytes]:
    """An isolated child with its job in a file of ``folder``."""
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    with (folder / "stderr.txt").open("wb") as errors:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and script, no shell
            [sys.executable, "-I", "-X", "utf8", str(script), str(folder / "job.json")],
            cwd=folder, env=_environment(folder), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=errors, start_new_session=True,
        )  # fmt: skip


def _environment(folder: Path) -> dict[str, str]:
    """The least that a process needs: without tokens, keys or passwords."""
    passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return passed | {"HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8", "CUDA_VISIBLE_DEVICES": ""}


def _answers(child: subprocess.Popen[bytes] | _Forked, on_answer: Callable[[], None]) -> Iterator[dict[str, Any]]:
    if child.stdout is None:
        return
    while line := child.stdout.readline(MAX_LINE):
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise Unavailable(f"the clean process answered {line[:80]!r}, which is not JSON") from error
        yield answer
        on_answer()


def _kill(child: subprocess.Popen[bytes] | _Forked) -> None:
    """End the child and all that it started; nothing is left behind."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _last_words(folder: Path) -> str:
    text = (folder / "stderr.txt").read_text("utf-8", errors="replace").strip()
    return text.splitlines()[-1][:300] if text else "it said nothing"
