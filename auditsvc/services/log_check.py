"""Compares the ledger with its transparency log: every record, index and tree node, and the published checkpoint.

The service runs it at its start and once an hour, the command ``auditsvc gate`` each time, and so does whatever signs.
It finds what a program with write access to the database removed, changed or added without the log.  It can't find
entries that such a program appended to the log in its form: those are found where a witness or a reader compares the
log with what people did.
"""

from __future__ import annotations

from auditsvc.errors import Conflict, LogMismatch, Unavailable
from auditsvc.ports import Context
from auditsvc.records import Value
from auditsvc.services.signing_context import checkpoint_store_of

SHOWN = 5
"""How many differences an error message names."""


class LogCheck(Value):
    """What was compared, and everything that differs."""

    entries: int
    root: str
    faults: tuple[str, ...]

    def require(self) -> None:
        """Refuse to go on with a ledger that differs from its log.

        Raises:
            LogMismatch: names the first differences.
        """
        if self.faults:
            more = f" and {len(self.faults) - SHOWN} more" if len(self.faults) > SHOWN else ""
            raise LogMismatch(
                f"the ledger does not follow from its log: {'; '.join(self.faults[:SHOWN])}{more}. Nothing is answered "
                "or signed; see `auditsvc log check`, and restore the database from a backup"
            )


def check_log(ctx: Context) -> LogCheck:
    """Derive every record and index from the log's entries again, and compare the log with its published checkpoint.

    A checkpoint that can't be read, for instance by a reader without the keys, is left out.

    Raises:
        Unavailable: the ledger can't be read.
    """
    entries = ctx.log.size()
    faults = list(ctx.ledger.faults())
    try:
        root = "" if faults else ctx.log.root(entries).hex()
        checkpoint_store_of(ctx).guard()
    except Conflict as error:
        faults.append(str(error))
    except Unavailable:
        root = ""
    return LogCheck(entries=entries, root=root, faults=tuple(faults))
