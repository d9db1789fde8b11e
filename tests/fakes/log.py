"""A transparency log in memory, which works."""

from __future__ import annotations

from collections.abc import Sequence

from auditsvc.errors import NotFound
from auditsvc.provenance.formats import merkle_log
from auditsvc.records import Digest


class MemoryLog:
    """Leaves in a list; ``nodes`` holds every complete subtree, as a real log would store them."""

    def __init__(self, leaves: Sequence[bytes] = ()) -> None:
        self.leaves: list[bytes] = []
        self._index: dict[bytes, int] = {}
        self._objects: dict[Digest, int] = {}
        self._nodes: dict[tuple[int, int], bytes] = {}
        for leaf in leaves:
            self.append_leaf(leaf)

    def note_object(self, object_digest: Digest, index: int) -> None:
        """Remember that this object is what the leaf at ``index`` is about."""
        self._objects.setdefault(object_digest, index)

    def leaf_index(self, object_digest: Digest) -> int:
        if object_digest not in self._objects:
            raise NotFound(f"{object_digest} is not in the log")
        return self._objects[object_digest]

    def append_leaf(self, data: bytes) -> int:
        if data in self._index:
            return self._index[data]
        index = len(self.leaves)
        for level, here, node in merkle_log.completed(index, merkle_log.leaf_hash(data), self.node):
            self._nodes[level, here] = node
        self.leaves.append(data)
        self._index[data] = index
        return index

    def node(self, level: int, index: int) -> bytes:
        return self._nodes[level, index]

    def size(self) -> int:
        return len(self.leaves)

    def root(self, size: int) -> bytes:
        return merkle_log.root(size, self.node)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        return merkle_log.inclusion(index, size, self.node)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        return merkle_log.consistency(old, new, self.node)
