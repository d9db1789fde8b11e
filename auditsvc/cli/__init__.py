"""The command line; it calls the same services as the HTTP API.

Exit codes of ``gate`` and ``verify``: 0 approved / VALID, 1 rejected / INVALID, 2 usage error, 3 inconclusive /
UNKNOWN, 4 the tool or something that it needs failed (every uncaught exception), 5 REVOKED.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Run the command line."""
    # Spinning OpenMP threads make torch three times slower on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.argv[1:2] in (["gate"], ["verify"]):
        gc.disable()  # a process of less than a second frees its memory by ending; imports get a fifth faster
        _run(_gate_and_verify)
    else:
        _run(_all_commands)


def verify_main() -> None:
    """Run ``auditsvc-verify``, the command of the verifier's own distribution."""
    gc.disable()
    _run(_verify_alone)


def _all_commands() -> typer.Typer:
    from auditsvc.cli.app import app

    return app


def _gate_and_verify() -> typer.Typer:
    """The two commands that pipelines call, without importing all others."""
    from auditsvc.cli.verify import gate, verify

    return _app_of(gate, verify)


def _verify_alone() -> typer.Typer:
    from auditsvc.cli.verify import verify

    return _app_of(verify)


def _app_of(*commands: Callable[..., None]) -> typer.Typer:
    import typer

    app = typer.Typer(name="auditsvc", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    for command in commands:
        app.command()(command)
    return app


def _run(commands: Callable[[], typer.Typer]) -> None:
    """Run an app; an ``AuditError`` becomes one message and its exit code, any other exception one line and 4."""
    from auditsvc.errors import AuditError

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name in letters that the output lacks is no error
    with _ExitCodes():
        try:
            commands()()
        except AuditError as error:
            from auditsvc.cli.output import fail

            sys.exit(fail(error))
        except KeyboardInterrupt:
            print("\nInterrupted; run the same command again to continue.", file=sys.stderr)
            sys.exit(130)


FAILED, UNANSWERED = 4, 2
"""Exit codes of a failure of the tool, and of a question that got no answer."""


class _ExitCodes:
    """Whatever raises inside ends the process with one line and exit code 4.

    Python's own exit code for an exception is 1, and so is Click's for closed output and for a question without an
    answer; here 1 means rejected.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        cause = error.__context__ if isinstance(error, SystemExit) else error
        code = FAILED
        if type(cause).__name__ == "Abort":
            code = UNANSWERED
        elif _is_closed_pipe(cause) or isinstance(error, Exception):
            _say_failed(cause)
        else:
            code = error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 0
        try:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, where a full disk is an error; at shutdown it changes the exit code to 120
        except (OSError, ValueError) as full:
            code = FAILED
            _say_failed(full)
        if kind is None or issubclass(kind, Exception | SystemExit):
            raise SystemExit(code) from None


def _is_closed_pipe(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EPIPE


def _say_failed(error: BaseException | None) -> None:
    """One line with the exception and the place in this package; a closed pipe is quiet, as in other Unix tools."""
    own = [
        frame for frame in traceback.extract_tb(error.__traceback__ if error else None) if _PACKAGE in frame.filename
    ]
    place = f" ({Path(own[-1].filename).relative_to(_PACKAGE).as_posix()}:{own[-1].lineno})" if own else ""
    words = " ".join(f"{type(error).__name__}: {error}".split())
    if isinstance(error, OSError) and sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):  # what could not be written is not tried again at shutdown
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if _is_closed_pipe(error):
        return
    from auditsvc.cli.output import print_json, wants_json

    if sys.stderr is None:
        return
    if wants_json():
        print_json({"error": {"code": "failed", "message": words + place, "reasons": []}})
    else:
        print(f"auditsvc: failed: {words}{place}; this is a fault of auditsvc or of what it runs on", file=sys.stderr)


_PACKAGE = str(Path(__file__).parents[1])
