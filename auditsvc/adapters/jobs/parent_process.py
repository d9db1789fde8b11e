"""Workers that end with the service that started them, however it ends.

The kernel is asked for a signal at the parent's death (Linux); a worker also looks now and then whose child it is.  The
next service finds workers of its store whose service is gone, by the command line that it would start them with.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def end_with_parent(number: signal.Signals = signal.SIGTERM) -> None:
    """Get this signal when the parent process ends (prctl(2)); elsewhere than on Linux nothing happens."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


PARENT = "--parent"
"""The option of the worker's command that comes last; its value is the service's process."""


def orphans(command: Sequence[str]) -> Iterator[int]:
    """Processes of this user that were started with this command, and are not a child of the parent that it names.

    Nothing else is ever found: all words before the number have to be the same, the store and ``--parent`` among them.

    Raises:
        ValueError: a command that does not end with ``--parent`` and a number.
    """
    if len(command) < 4 or command[-2] != PARENT or not command[-1].isdecimal():
        raise ValueError("the command of a worker ends with --parent and a number")
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            words = (place / "cmdline").read_bytes().decode().split("\0")[:-1]
            if words[:-1] != list(command[:-1]) or not words[-1].isdecimal() or place.stat().st_uid != os.getuid():
                continue
            if (place / "stat").read_text().rpartition(")")[2].split()[1] != words[-1]:
                yield int(place.name)


def end_orphans(command: Sequence[str]) -> int:
    """Kill them; a job that is killed loses no more than its step.  Returns how many there were."""
    found = 0
    for process in orphans(command):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
            found += 1
    return found
