"""Rights of an ordinary user for a while, also where the tests run as root."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION_3 = 0x20080522
_OVERRIDES = 0b110  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, bits 1 and 2: what lets root ignore file modes
_DROP_FROM_BOUNDING_SET = 24
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """While this lasts, this thread may look into the folder but not write there.

    Root keeps its name and gives up only the right to ignore file modes, so that everything else that it owns, such
    as the packages that tests import, stays readable.
    """
    inside = [folder, *folder.rglob("*")]
    rights = {path: path.stat().st_mode for path in inside}
    for path in inside:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = _effective()
    try:
        _set_effective(before & ~_OVERRIDES)
        yield
    finally:
        _set_effective(before)
        for path, mode in rights.items():
            path.chmod(mode)


def obey_file_modes() -> None:
    """Take from this process and all that it starts, for good, root's right to ignore file modes.

    For ``preexec_fn``: giving the right up for a while, as :func:`read_only` does, ends where root starts a program.
    """
    for capability in (1, 2):
        _libc.prctl(_DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)


def _effective() -> int:
    return _capabilities()[0]


def _set_effective(low: int) -> None:
    words = _capabilities()
    words[0] = low
    _call(_libc.capset, words)


def _capabilities() -> ctypes.Array[ctypes.c_uint32]:
    """Effective, permitted, inheritable: the low words, then the high ones."""
    words = (ctypes.c_uint32 * 6)()
    _call(_libc.capget, words)
    return words


def _call(function: object, words: ctypes.Array[ctypes.c_uint32]) -> None:
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    if function(header, words) != 0:  # type: ignore[operator]
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
