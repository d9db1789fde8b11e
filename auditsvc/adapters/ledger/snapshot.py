"""The ledger at one moment: several look-ups in one transaction, which is also half the cost of one for each."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import Connection, Engine, bindparam, select

from auditsvc.adapters.ledger.opening import place
from auditsvc.adapters.ledger.schema import record, subject
from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.records import Digest, Record, digest_of

R = TypeVar("R", bound=Record)

_GET = select(record.c.body).where(record.c.digest == bindparam("digest"), record.c.kind == bindparam("kind"))
_FIND = (
    select(record.c.digest, record.c.body)
    .join_from(subject, record, subject.c.digest == record.c.digest)
    .where(subject.c.kind == bindparam("kind"), subject.c.subject == bindparam("about"))
    .order_by(subject.c.position)
)
_NEWEST = (
    select(record.c.digest, record.c.body, record.c.position)
    .where(record.c.kind == bindparam("kind"), record.c.position < bindparam("before"))
    .order_by(record.c.position.desc())
    .limit(bindparam("most"))
)
_NEWEST_ABOUT = (
    select(record.c.digest, record.c.body, record.c.position)
    .join_from(subject, record, subject.c.digest == record.c.digest)
    .where(
        subject.c.kind == bindparam("kind"),
        subject.c.subject == bindparam("about"),
        subject.c.position < bindparam("before"),
    )
    .order_by(subject.c.position.desc())
    .limit(bindparam("most"))
)


class Snapshot:
    """``ports.View`` over one connection and its transaction.  Every body is checked against its digest."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self._engine = connection, connection.engine

    def get(self, kind: type[R], digest: Digest) -> R:
        """The record of this kind with this digest.  Raises ``NotFound``."""
        body = self._connection.execute(_GET, {"digest": digest, "kind": kind.kind}).scalar()
        if body is None:
            raise NotFound(f"no {kind.kind} record {digest}")
        return parsed(kind, digest, body, self._engine)

    def find(self, kind: type[R], subject: str) -> tuple[R, ...]:
        """All records of this kind about this subject, oldest first."""
        rows = self._connection.execute(_FIND, {"kind": kind.kind, "about": subject}).all()
        return tuple(parsed(kind, digest, body, self._engine) for digest, body in rows)

    def page(
        self, kind: type[R], *, subject: str = "", before: int | None = None, limit: int = 20
    ) -> tuple[tuple[int, R], ...]:
        """At most ``limit`` records with their positions, newest first; see ``ports.View.page``."""
        values = {"kind": kind.kind, "about": subject, "before": 2**62 if before is None else before, "most": limit}
        rows = self._connection.execute(_NEWEST_ABOUT if subject else _NEWEST, values).all()
        return tuple((position, parsed(kind, digest, body, self._engine)) for digest, body, position in rows)


def parsed(kind: type[R], digest: Digest, body: bytes | str, engine: Engine) -> R:
    """The record in a row of this database.

    Raises:
        Unavailable: other bytes than the digest says, or a record of a newer auditsvc.
    """
    data = body.encode() if isinstance(body, str) else bytes(body)  # SQLite gives text where somebody wrote text
    if digest_of(data) != digest:
        raise Unavailable(
            f"the ledger at {place(engine)} is damaged: {digest} has other bytes; restore it from a backup"
        )
    try:
        return kind.stored(data, digest)
    except InvalidInput as error:
        raise Unavailable(
            f"the ledger at {place(engine)} holds a record that this auditsvc can't read: {error}"
        ) from error
