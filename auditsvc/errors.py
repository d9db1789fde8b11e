"""Every error that auditsvc raises on purpose.

A violated rule is a *result* (a verdict), a crashed check is a *record* (``CheckFailed``); only a bad
request, file, policy or signature, or a tool that is missing, is an *error*::

    AuditError                     code             HTTP  exit
    |-- InvalidInput               invalid-input     422     2   the input cannot be used
    |   |-- InvalidPolicy          invalid-policy    422     2   all faults of a policy, with their lines
    |   |-- InvalidDataset         invalid-dataset   422     2   images and metadata do not belong together
    |   `-- Refused                refused           422     2   model files that were not admitted, with every reason
    |-- NotFound                   not-found         404     2   no such record, model or file
    |-- Conflict                   conflict          409     2   already done by another caller, or too late
    |-- Forbidden                  forbidden         403     2   this person may not do this
    |   |-- NotApproved            not-approved      403     2   a release without its decision or approvals
    |   `-- NotVerified            not-verified      403     2   a release that was to be loaded and is not valid
    |-- Unauthenticated            unauthenticated   401     2   no token, or one that is not known
    |-- TooMany                    too-many          429     4   more requests than one caller may send
    |-- Cancelled                  cancelled         409     4   the job was stopped before its end
    `-- Unavailable                unavailable       503     4   a disk, server or library that is needed failed
        |-- LogMismatch            log-mismatch      503     4   the ledger does not follow from its log
        `-- StorageFull            storage-full      507     4   a disk or quota is used up

``code`` is stable and is what programs should look at; ``str(error)`` says what happened and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class AuditError(Exception):
    """The root of the tree; never raised itself."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 4


class InvalidInput(AuditError):
    """What was given cannot be used; says which part, why, and what would work."""

    code = "invalid-input"
    status = 422
    exit_code = 2

    def __init__(self, message: str, reasons: Iterable[str] = ()) -> None:
        self.reasons = tuple(reasons)
        lines = (message, *(f"  - {reason}" for reason in self.reasons))
        super().__init__("\n".join(lines))


class InvalidPolicy(InvalidInput):
    """A policy with faults; ``reasons`` lists all of them, each with its line."""

    code = "invalid-policy"


class InvalidDataset(InvalidInput):
    """Images and metadata that do not belong together."""

    code = "invalid-dataset"


class Refused(InvalidInput):
    """Model files that were not admitted; ``reasons`` lists every reason."""

    code = "refused"


class NotFound(AuditError):
    """No record, model version or file by that name."""

    code = "not-found"
    status = 404
    exit_code = 2


class Conflict(AuditError):
    """The current state does not allow it: already done by another caller, or too late."""

    code = "conflict"
    status = 409
    exit_code = 2


class Forbidden(AuditError):
    """This person or role may not do this."""

    code = "forbidden"
    status = 403
    exit_code = 2


class NotApproved(Forbidden):
    """A release was asked for without an approved decision or without enough approvals."""

    code = "not-approved"


class NotVerified(Forbidden):
    """A release that was to be loaded is not ``VALID``; ``reasons`` lists every reason."""

    code = "not-verified"

    def __init__(self, message: str, reasons: Iterable[str] = ()) -> None:
        self.reasons = tuple(reasons)
        super().__init__("\n".join((message, *(f"  - {reason}" for reason in self.reasons))))


class Unauthenticated(AuditError):
    """No token was given, or one that is not known, expired or revoked."""

    code = "unauthenticated"
    status = 401
    exit_code = 2


class TooMany(AuditError):
    """One caller sent more requests than its share; wait a moment."""

    code = "too-many"
    status = 429


class Cancelled(AuditError):
    """The job was stopped before its end; what was finished is kept."""

    code = "cancelled"
    status = 409


class Unavailable(AuditError):
    """Something that is needed failed: a full disk, a read-only folder, a server, a missing library."""

    code = "unavailable"
    status = 503


class LogMismatch(Unavailable):
    """Records or indexes don't follow from the transparency log: no gate answer, nothing is signed."""

    code = "log-mismatch"


class StorageFull(Unavailable):
    """A disk or a quota is used up; nothing half-written was kept."""

    code = "storage-full"
    status = 507


def errors_by_code() -> dict[str, type[AuditError]]:
    """Every error of the tree by its code: how one that crossed a process becomes itself again."""
    found: dict[str, type[AuditError]] = {}
    kinds: list[type[AuditError]] = [AuditError]
    while kinds:
        kind = kinds.pop()
        if "code" in vars(kind):  # not a module's own variant of one of these
            found[kind.code] = kind
        kinds += kind.__subclasses__()
    return found
