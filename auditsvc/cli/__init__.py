"""The command line; it calls the same services as the HTTP API.

Exit codes of ``gate`` and ``verify``: 0 approved / VALID, 1 rejected / INVALID, 2 usage error, 3 inconclusive /
UNKNOWN, 4 the tool or something that it needs failed, 5 REVOKED.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
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
    """Run an app; an ``AuditError`` becomes one message and its exit code."""
    from auditsvc.errors import AuditError

    try:
        commands()()
    except AuditError as error:
        from auditsvc.cli.output import fail

        sys.exit(fail(error))
    except KeyboardInterrupt:
        print("\nInterrupted; run the same command again to continue.", file=sys.stderr)
        sys.exit(130)
