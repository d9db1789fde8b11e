"""The command line: the same verbs as the API.

Exit codes of ``gate`` and ``verify``: 0 approved / VALID, 1 rejected / INVALID, 2 usage error, 3 inconclusive /
UNKNOWN, 4 the tool or something that it needs failed, 5 REVOKED.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Run the command line.

    Torch's threads are told not to spin while they wait: on a busy machine that is three times faster.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _run(_whole)


def verify_main() -> None:
    """Run ``auditsvc-verify``: the one command that installs without everything else."""
    _run(_verifier)


def _whole() -> typer.Typer:
    from auditsvc.cli.app import app

    return app


def _verifier() -> typer.Typer:
    import typer

    from auditsvc.cli.verify import verify

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(verify)
    return app


def _run(commands: Callable[[], typer.Typer]) -> None:
    """Every error of ours is one clear message and its exit code, never a traceback."""
    from auditsvc.errors import AuditError

    try:
        commands()()
    except AuditError as error:
        from auditsvc.cli.output import fail

        sys.exit(fail(error))
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on where it was", file=sys.stderr)
        sys.exit(130)
