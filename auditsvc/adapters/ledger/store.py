"""The ledger and its log over SQL."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import Connection, bindparam, func, insert, select

from auditsvc.adapters.ledger.opening import open_engine, reading, writing
from auditsvc.adapters.ledger.people import guard
from auditsvc.adapters.ledger.schema import leaf, record, subject
from auditsvc.adapters.ledger.snapshot import Snapshot, parsed
from auditsvc.errors import InvalidInput, NotFound
from auditsvc.ports import Clock
from auditsvc.records import Digest, Record, canonical_json, digest_of

if TYPE_CHECKING:
    from auditsvc.adapters.ledger.tree import Tree

R = TypeVar("R", bound=Record)

_PAGE = 200
"""Records in one query of ``all``: no transaction stays open while the caller works on them."""

_NEXT = (
    select(record.c.digest, record.c.body, record.c.position)
    .where(record.c.kind == bindparam("kind"), record.c.position > bindparam("after"))
    .order_by(record.c.position)
    .limit(_PAGE)
)
_LOGGED = select(func.min(leaf.c.idx)).where(leaf.c.object == bindparam("about"))
_LEAF = select(leaf.c.data).where(leaf.c.idx == bindparam("idx"))


class SqlLedger:
    """Records and their Merkle log in one SQL database; ``ports.Ledger`` and ``ports.Log``.

    Each new record is added together with its event in the log, in one transaction: there is no record without its
    leaf, and no leaf without its record.  Every body is checked against its digest when it is read.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        """Open the store; a new one is made, an older one is migrated.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: can't be opened, is damaged, or was written by a newer auditsvc.
        """
        self._engine = open_engine(url)
        self._clock = clock

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()

    def append(self, *records: Record, actor: str) -> None:
        """Add records, and one log event for each, all or none; see ``ports.Ledger.append``."""
        if not actor.strip():
            raise InvalidInput("an entry in the ledger needs the name of who made it")
        named = {one.digest: one for one in records}
        if not named:
            return
        with writing(self._engine) as connection:
            there = set(connection.execute(select(record.c.digest).where(record.c.digest.in_(named))).scalars())
            new = {digest: one for digest, one in named.items() if digest not in there}
            if new:
                self._add(connection, new, actor)

    def _add(self, connection: Connection, new: dict[Digest, Record], actor: str) -> None:
        for digest, one in new.items():
            guard(connection, digest, one)
        tree = _tree(connection)
        first = tree.size
        tree.grow([(self._event(digest, one, actor), digest) for digest, one in new.items()])
        numbered = list(enumerate(new.items(), start=first))
        connection.execute(
            insert(record),
            [
                {"digest": digest, "kind": one.kind, "body": one.canonical(), "position": position}
                for position, (digest, one) in numbered
            ],
        )
        subjects = [
            {"kind": one.kind, "subject": about, "position": position, "digest": digest}
            for position, (digest, one) in numbered
            for about in sorted(set(one.subjects()))
        ]
        if subjects:
            connection.execute(insert(subject), subjects)

    def _event(self, digest: Digest, one: Record, actor: str) -> bytes:
        return canonical_json(
            {
                "kind": "auditsvc.event",
                "apiVersion": "1",
                "type": one.kind,
                "actor": actor,
                "at": self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
                "object": digest,
            }
        )

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The ledger at one moment; see ``ports.Ledger.snapshot``."""
        with reading(self._engine) as connection:
            yield Snapshot(connection)

    def get(self, kind: type[R], digest: Digest) -> R:
        """The record of this kind with this digest; see ``ports.View.get``."""
        with self.snapshot() as now:
            return now.get(kind, digest)

    def find(self, kind: type[R], subject: str) -> tuple[R, ...]:
        """All records of this kind about this subject, oldest first."""
        with self.snapshot() as now:
            return now.find(kind, subject)

    def page(
        self, kind: type[R], *, subject: str = "", before: int | None = None, limit: int = 20
    ) -> tuple[tuple[int, R], ...]:
        """At most ``limit`` records with their positions, newest first; see ``ports.View.page``."""
        with self.snapshot() as now:
            return now.page(kind, subject=subject, before=before, limit=limit)

    def all(self, kind: type[R]) -> Iterator[R]:
        """All records of this kind, oldest first; those added while the caller reads are given too."""
        after = -1
        while rows := self._next(kind, after):
            for digest, body, after in rows:  # noqa: B007 - the last position is where the next page starts
                yield parsed(kind, digest, body, self._engine)

    def _next(self, kind: type[Record], after: int) -> Sequence[tuple[str, bytes | str, int]]:
        with reading(self._engine) as connection:
            rows = connection.execute(_NEXT, {"kind": kind.kind, "after": after})
            return [(digest, body, position) for digest, body, position in rows]

    def leaf_index(self, object_digest: Digest) -> int:
        """Where this object was logged first; see ``ports.Log.leaf_index``."""
        with reading(self._engine) as connection:
            found = connection.execute(_LOGGED, {"about": object_digest}).scalar()
        if found is None:
            raise NotFound(f"the log has no entry about {object_digest}")
        return int(found)

    def leaf(self, index: int) -> bytes:
        """The bytes of one leaf.

        Raises:
            NotFound: the log is smaller.
        """
        with reading(self._engine) as connection:
            found = connection.execute(_LEAF, {"idx": index}).scalar()
        if found is None:
            raise NotFound(f"the log has no leaf {index}")
        return bytes(found)

    def append_leaf(self, data: bytes) -> int:
        """Log these bytes and return the index; the same bytes keep their index."""
        with writing(self._engine) as connection:
            tree = _tree(connection)
            index = tree.index_of(data)
            if index is None:
                index = tree.size
                tree.grow([(data, digest_of(data))])
        return index

    def size(self) -> int:
        """The number of leaves."""
        with reading(self._engine) as connection:
            return _tree(connection).size

    def root(self, size: int) -> bytes:
        """The root hash of the first ``size`` leaves.  Raises ``NotFound`` if the log is smaller."""
        with reading(self._engine) as connection:
            return _tree(connection).root(size)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The audit path of one leaf in the tree of this size.  Raises ``NotFound`` if it has no such leaf."""
        with reading(self._engine) as connection:
            return _tree(connection).inclusion(index, size)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the tree of size ``new`` continues that of size ``old``.  Raises ``NotFound``."""
        with reading(self._engine) as connection:
            return _tree(connection).consistency(old, new)


def _tree(connection: Connection) -> Tree:
    """Imported here: the hashing brings a crypto library along, which a look-up doesn't need."""
    from auditsvc.adapters.ledger.tree import Tree

    return Tree(connection)
