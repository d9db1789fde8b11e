"""Root may write everywhere; a test of a read-only folder needs somebody who may not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NOBODY = 65534


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """While this lasts, the process is nobody in particular, and may look into the folder but not write there."""
    was_root = os.geteuid() == 0
    inside = [folder, *folder.rglob("*")]
    above = [path for path in folder.parents if was_root and not path.stat().st_mode & 0o001]
    rights = {path: path.stat().st_mode for path in (*inside, *above)}
    for path in inside:
        path.chmod(0o555 if path.is_dir() else 0o444)
    for path in above:
        path.chmod(rights[path] | 0o011)
    if was_root:
        os.seteuid(_NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        for path, mode in rights.items():
            path.chmod(mode)
