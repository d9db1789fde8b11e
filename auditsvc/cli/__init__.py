"""The command line: the same verbs as the API.

Exit codes of ``gate`` and ``verify``: 0 approved / VALID, 1 rejected / INVALID, 2 usage error, 3 inconclusive /
UNKNOWN, 4 the tool or something that it needs failed, 5 REVOKED.
"""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line; every error of ours is one clear message and its exit code, never a traceback.

    Torch's threads are told not to spin while they wait: on a busy machine that is three times faster.
    """
    from auditsvc.errors import AuditError

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from auditsvc.cli.app import app

        app()
    except AuditError as error:
        from auditsvc.cli.output import fail

        sys.exit(fail(error))
    except KeyboardInterrupt:
        print("\nstopped; run the same command again to go on where it was", file=sys.stderr)
        sys.exit(130)
