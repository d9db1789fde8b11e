"""The Merkle tree in its tables.  The hashing is ``provenance.tlog``'s; here is where the nodes are kept."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from sqlalchemy import Connection, bindparam, func, insert, literal_column, select

from auditsvc.adapters.ledger.schema import leaf, node
from auditsvc.errors import NotFound, Unavailable
from auditsvc.provenance import tlog
from auditsvc.records import Digest

_SIZE = select(func.coalesce(func.max(leaf.c.idx) + 1, 0))
_NODE = select(node.c.hash).where(node.c.level == bindparam("level"), node.c.idx == bindparam("idx"))
_OF_HASH = select(node.c.idx).where(node.c.level == literal_column("0"), node.c.hash == bindparam("hash"))


class Tree:
    """The tree as one transaction sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._made: dict[tuple[int, int], bytes] = {}
        self.size = int(connection.execute(_SIZE).scalar_one())

    def node(self, level: int, index: int) -> bytes:
        """The hash of one complete subtree.

        Raises:
            Unavailable: it is not there, although its leaves are: the store was damaged.
        """
        if (level, index) not in self._made:
            found = self._connection.execute(_NODE, {"level": level, "idx": index}).scalar()
            if found is None:
                raise Unavailable(f"the ledger is damaged (no tree node {level}/{index}): restore it from a backup")
            self._made[level, index] = bytes(found)
        return self._made[level, index]

    def index_of(self, data: bytes) -> int | None:
        """Where these very bytes were logged, or None: not yet."""
        found = self._connection.execute(_OF_HASH, {"hash": tlog.leaf_hash(data)}).scalar()
        return None if found is None else int(found)

    def grow(self, leaves: Sequence[tuple[bytes, Digest]]) -> None:
        """Add leaves, each with the digest of the object that it is about.  Needs the writer's transaction."""
        numbered = list(enumerate(leaves, start=self.size))
        rows = [{"idx": index, "data": data, "object": about} for index, (data, about) in numbered]
        new = list(chain.from_iterable(self._completed(index, data) for index, (data, _) in numbered))
        self._connection.execute(insert(leaf), rows)
        self._connection.execute(insert(node), new)
        self.size += len(rows)

    def _completed(self, index: int, data: bytes) -> list[dict[str, object]]:
        found = list(tlog.completed(index, tlog.leaf_hash(data), self.node))
        self._made.update({(level, at): value for level, at, value in found})
        return [{"level": level, "idx": at, "hash": value} for level, at, value in found]

    def root(self, size: int) -> bytes:
        """The root of the first ``size`` leaves.  Raises ``NotFound`` if there are fewer."""
        self._must_hold(size)
        return tlog.root(size, self.node)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The audit path of one leaf in the tree of this size.  Raises ``NotFound`` if it has no such leaf."""
        self._must_hold(size)
        if not 0 <= index < size:
            raise NotFound(f"a log of {size} leaves has no leaf {index}")
        return tlog.inclusion(index, size, self.node)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the tree of ``new`` leaves continues that of ``old``.  Raises ``NotFound`` if it can't."""
        self._must_hold(new)
        if not 0 <= old <= new:
            raise NotFound(f"a log of {new} leaves does not continue one of {old}")
        return tlog.consistency(old, new, self.node)

    def _must_hold(self, size: int) -> None:
        if not 0 <= size <= self.size:
            raise NotFound(f"the log has {self.size} leaves, not {size}")
