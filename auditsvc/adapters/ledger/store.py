"""The ledger and its Merkle log over SQL.

``append`` adds records, their events in the log, the rows that enforce separation of duties, and the tree nodes in one
transaction.  Whether two people are different is checked by a database constraint alone; what can be explained in a
clearer message (a candidate that was never submitted, for example) is checked before the insert.

The Merkle tree is RFC 6962's; ``provenance.formats.merkle_log`` does the hashing, this module stores the nodes.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import TypeVar

from sqlalchemy import Connection, bindparam, func, insert, literal_column, select

from auditsvc.adapters.ledger.integrity import add_duties_row, ledger_faults
from auditsvc.adapters.ledger.schema import SCHEMA, leaf, node, record, subject
from auditsvc.adapters.sql import Database
from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.ports import Clock
from auditsvc.provenance.formats import merkle_log
from auditsvc.records import Digest, Record, digest_of
from auditsvc.records.base import encode_event

_SIZE = select(func.coalesce(func.max(leaf.c.idx) + 1, 0))
_NODE = select(node.c.hash).where(node.c.level == bindparam("level"), node.c.idx == bindparam("idx"))
_OF_HASH = select(node.c.idx).where(node.c.level == literal_column("0"), node.c.hash == bindparam("hash"))


class Tree:
    """The Merkle tree as one transaction sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._made: dict[tuple[int, int], bytes] = {}
        self.size = int(connection.execute(_SIZE).scalar_one())

    def node(self, level: int, index: int) -> bytes:
        """The hash of one complete subtree.

        Raises:
            Unavailable: the node is missing although its leaves exist: the database is damaged.
        """
        if (level, index) not in self._made:
            found = self._connection.execute(_NODE, {"level": level, "idx": index}).scalar()
            if found is None:
                raise Unavailable(f"the ledger is damaged (no tree node {level}/{index}): restore it from a backup")
            self._made[level, index] = bytes(found)
        return self._made[level, index]

    def index_of(self, data: bytes) -> int | None:
        """The index of the leaf with these bytes; None if they are not in the log."""
        found = self._connection.execute(_OF_HASH, {"hash": merkle_log.leaf_hash(data)}).scalar()
        return None if found is None else int(found)

    def grow(self, leaves: Sequence[tuple[bytes, Digest]]) -> None:
        """Add leaves, each with the digest of the object that it is about.  Needs the write transaction."""
        numbered = list(enumerate(leaves, start=self.size))
        rows = [{"idx": index, "data": data, "object": about} for index, (data, about) in numbered]
        new = list(chain.from_iterable(self._completed(index, data) for index, (data, _) in numbered))
        self._connection.execute(insert(leaf), rows)
        self._connection.execute(insert(node), new)
        self.size += len(rows)

    def _completed(self, index: int, data: bytes) -> list[dict[str, object]]:
        found = list(merkle_log.completed(index, merkle_log.leaf_hash(data), self.node))
        self._made.update({(level, at): value for level, at, value in found})
        return [{"level": level, "idx": at, "hash": value} for level, at, value in found]

    def root(self, size: int) -> bytes:
        """The root of the first ``size`` leaves.  Raises ``NotFound`` if there are fewer."""
        self._check_size(size)
        return merkle_log.root(size, self.node)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The audit path of one leaf in the tree of this size.  Raises ``NotFound`` if it has no such leaf."""
        self._check_size(size)
        if not 0 <= index < size:
            raise NotFound(f"a log of {size} leaves has no leaf {index}")
        return merkle_log.inclusion(index, size, self.node)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the tree of ``new`` leaves extends that of ``old``.  Raises ``NotFound`` if it does not."""
        self._check_size(new)
        if not 0 <= old <= new:
            raise NotFound(f"a log of {new} leaves does not extend one of {old}")
        return merkle_log.consistency(old, new, self.node)

    def _check_size(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise NotFound(f"the log has {self.size} leaves, not {size}")


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

    def __init__(self, connection: Connection, location: str) -> None:
        self._connection, self._location = connection, location

    def get(self, kind: type[R], digest: Digest) -> R:
        """The record of this kind with this digest.  Raises ``NotFound``."""
        body = self._connection.execute(_GET, {"digest": digest, "kind": kind.kind}).scalar()
        if body is None:
            raise NotFound(f"no {kind.kind} record {digest}")
        return _read_record(kind, digest, body, self._location)

    def find(self, kind: type[R], subject: str) -> tuple[R, ...]:
        """All records of this kind about this subject, oldest first."""
        rows = self._connection.execute(_FIND, {"kind": kind.kind, "about": subject}).all()
        return tuple(_read_record(kind, digest, body, self._location) for digest, body in rows)

    def page(
        self, kind: type[R], *, subject: str = "", before: int | None = None, limit: int = 20
    ) -> tuple[tuple[int, R], ...]:
        """At most ``limit`` records with their positions, newest first; see ``ports.View.page``."""
        values = {"kind": kind.kind, "about": subject, "before": 2**62 if before is None else before, "most": limit}
        rows = self._connection.execute(_NEWEST_ABOUT if subject else _NEWEST, values).all()
        return tuple((position, _read_record(kind, digest, body, self._location)) for digest, body, position in rows)


class ParsedRecords:
    """Large records that were read lately, so that a decision of some MB is parsed once; records never change.

    Their bytes are still read and checked against the digest each time.
    """

    def __init__(self, smallest: int = 16 << 10, most: int = 32 << 20) -> None:
        """Records of ``smallest`` bytes or more, up to ``most`` bytes together."""
        self.smallest, self._most = smallest, most
        self._bytes = 0
        self._lock = threading.Lock()
        self._known: OrderedDict[Digest, tuple[Record, int]] = OrderedDict()

    def read(self, kind: type[R], data: bytes, digest: Digest) -> R:
        """The record with these bytes, whose digest was checked.  Raises ``InvalidInput``."""
        if len(data) < self.smallest:
            return kind.stored(data, digest)
        with self._lock:
            known = self._known.get(digest, (None, 0))[0]
            if isinstance(known, kind):
                self._known.move_to_end(digest)
                return known
        made = kind.stored(data, digest)
        with self._lock:
            if digest not in self._known:
                self._known[digest] = made, len(data)
                self._bytes += len(data)
            while self._bytes > self._most:
                self._bytes -= self._known.popitem(last=False)[1][1]
        return made


_parsed = ParsedRecords()


def _read_record(kind: type[R], digest: Digest, body: bytes | str, location: str) -> R:
    """The record in a row of the database at ``location``.

    Raises:
        Unavailable: the bytes do not have this digest, or a newer auditsvc wrote the record.
    """
    data = body.encode() if isinstance(body, str) else bytes(body)  # SQLite gives str where another program wrote text
    if digest_of(data) != digest:
        raise Unavailable(f"the ledger at {location} is damaged: {digest} has other bytes; restore it from a backup")
    try:
        return _parsed.read(kind, data, digest)
    except InvalidInput as error:
        raise Unavailable(f"the ledger at {location} holds a record that this auditsvc can't read: {error}") from error


_PAGE = 200
"""Records in one query of ``all``: no transaction stays open while the caller processes them."""

_NEXT = (
    select(record.c.digest, record.c.body, record.c.position)
    .where(record.c.kind == bindparam("kind"), record.c.position > bindparam("after"))
    .order_by(record.c.position)
    .limit(_PAGE)
)
_LOGGED = select(func.min(leaf.c.idx)).where(leaf.c.object == bindparam("about"))
_LEAF = select(leaf.c.data).where(leaf.c.idx == bindparam("idx"))


class SqlLedger:
    """Records and their Merkle log in one SQL database; implements ``ports.Ledger`` and ``ports.Log``.

    A record and its event in the log are added in one transaction, so neither exists without the other.  Every body
    is checked against its digest when it is read.
    """

    def __init__(self, url: str, clock: Clock) -> None:
        """Open the database: a new one is created, an older one is upgraded.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: can't be opened, is damaged, or was written by a newer auditsvc.
        """
        self._database = Database(url, SCHEMA)
        self._clock = clock

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def append(self, *records: Record, actor: str) -> None:
        """Add records, and one log event for each, all or none; see ``ports.Ledger.append``."""
        if not actor.strip():
            raise InvalidInput("an entry in the ledger needs the name of its actor")
        named = {one.digest: one for one in records}
        if not named:
            return
        with self._database.write_tx() as connection:
            stored = set(connection.execute(select(record.c.digest).where(record.c.digest.in_(named))).scalars())
            new = {digest: one for digest, one in named.items() if digest not in stored}
            if new:
                self._add(connection, new, actor)

    def _add(self, connection: Connection, new: dict[Digest, Record], actor: str) -> None:
        for digest, one in new.items():
            add_duties_row(connection, digest, one)
        tree = Tree(connection)
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
        return encode_event(one.event, actor, self._clock.now(), object=digest)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """The ledger at one moment; see ``ports.Ledger.snapshot``."""
        with self._database.read_tx() as connection:
            yield Snapshot(connection, self._database.location)

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
        """All records of this kind, oldest first, including those that are added while the caller reads."""
        after = -1
        while rows := self._next(kind, after):
            for digest, body, after in rows:  # noqa: B007 - the last position is where the next page starts
                yield _read_record(kind, digest, body, self._database.location)

    def _next(self, kind: type[Record], after: int) -> Sequence[tuple[str, bytes | str, int]]:
        with self._database.read_tx() as connection:
            rows = connection.execute(_NEXT, {"kind": kind.kind, "after": after})
            return [(digest, body, position) for digest, body, position in rows]

    def bodies(self) -> Iterator[bytes]:
        """The canonical JSON of every record, of whatever kind."""
        with self._database.read_tx() as connection:
            for (body,) in connection.execute(select(record.c.body)):
                yield body.encode() if isinstance(body, str) else bytes(body)

    def faults(self) -> tuple[str, ...]:
        """Everything that does not follow from the log; see ``ports.LoggedLedger.faults``."""
        with self._database.read_tx() as connection:
            return tuple(ledger_faults(connection))

    def leaf_index(self, object_digest: Digest) -> int:
        """The index of the first entry about this object; see ``ports.Log.leaf_index``."""
        with self._database.read_tx() as connection:
            found = connection.execute(_LOGGED, {"about": object_digest}).scalar()
        if found is None:
            raise NotFound(f"the log has no entry about {object_digest}")
        return int(found)

    def leaf(self, index: int) -> bytes:
        """The bytes of one leaf.

        Raises:
            NotFound: the log is smaller.
        """
        with self._database.read_tx() as connection:
            found = connection.execute(_LEAF, {"idx": index}).scalar()
        if found is None:
            raise NotFound(f"the log has no leaf {index}")
        return bytes(found)

    def append_leaf(self, data: bytes) -> int:
        """Append a leaf and return its index; bytes that are in the log already keep their index."""
        with self._database.write_tx() as connection:
            tree = Tree(connection)
            index = tree.index_of(data)
            if index is None:
                index = tree.size
                tree.grow([(data, digest_of(data))])
        return index

    def size(self) -> int:
        """The number of leaves."""
        with self._database.read_tx() as connection:
            return Tree(connection).size

    def root(self, size: int) -> bytes:
        """The root hash of the first ``size`` leaves.  Raises ``NotFound`` if the log is smaller."""
        with self._database.read_tx() as connection:
            return Tree(connection).root(size)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The audit path of one leaf in the tree of this size.  Raises ``NotFound`` if it has no such leaf."""
        with self._database.read_tx() as connection:
            return Tree(connection).inclusion(index, size)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the tree of size ``new`` extends the tree of size ``old``.  Raises ``NotFound``."""
        with self._database.read_tx() as connection:
            return Tree(connection).consistency(old, new)
