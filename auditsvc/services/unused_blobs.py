"""Remove files that no record of the ledger names: uploads that nothing used, results of shards whose audit is over.

A file stays for some days after it was last stored, so that what was uploaded for a job, and what a job that failed and
is tried again has measured, is there when it is needed.
"""

from __future__ import annotations

import re

from auditsvc.ports import Context

_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")


def remove_unused_blobs(ctx: Context, days: float) -> tuple[int, int]:
    """How many files were removed, and their bytes.

    Raises:
        InvalidInput: the blobs are in object storage.
        Unavailable: the ledger or the disk failed.
    """
    named = frozenset(found for body in ctx.ledger.bodies() for found in _DIGEST.findall(body))
    return ctx.blobs.remove_unused(frozenset(found.decode() for found in named), days)
