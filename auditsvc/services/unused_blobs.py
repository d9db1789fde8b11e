"""Remove files that no record of the ledger names: uploads that nothing used, results of shards whose audit is over.

A file stays for some days after it was last stored, so that what was uploaded for a job, and what a job that failed and
is tried again has measured, is there when it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from auditsvc.ports import Context, Ledger
from auditsvc.records import Digest, Record

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def remove_unused_blobs(ctx: Context, days: float) -> tuple[int, int]:
    """How many files were removed, and their bytes.

    Raises:
        InvalidInput: the blobs are in object storage.
        Unavailable: the ledger or the disk failed.
    """
    return ctx.blobs.remove_unused(frozenset(_named(ctx.ledger)), days)


def _named(ledger: Ledger) -> Iterator[Digest]:
    for kind in _kinds(Record):
        for record in ledger.all(kind):
            yield from _DIGEST.findall(record.canonical().decode())


def _kinds(base: type[Record]) -> Iterator[type[Record]]:
    for kind in base.__subclasses__():
        if "kind" in vars(kind):
            yield kind
        yield from _kinds(kind)
