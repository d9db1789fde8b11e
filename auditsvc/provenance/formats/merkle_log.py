"""The Merkle tree of a transparency log: hashes, roots, proofs and tiles, without storage.

A tree is read through ``Nodes``, a function that returns the hash of a *complete* subtree: ``nodes(level, index)``
covers the ``2**level`` leaves from ``index * 2**level``.  A log stores only those nodes; every root and proof needs
O(log n) of them.

Tiles are immutable files from which any client computes its own proofs, served by any web server or object store.  A
tile of level ``L`` has up to 256 hashes of complete subtrees of ``2**(8*L)`` leaves; an entry tile has the leaves
themselves, each after its length in two bytes.

References: B. Laurie, A. Langley, E. Kasper (2013), "Certificate Transparency", RFC 6962 section 2.1; the proof checks
follow RFC 9162 (2021), sections 2.1.3.2 and 2.1.4.2; C2SP (2024), "tlog-tiles", https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from auditsvc.errors import InvalidInput, NotFound

Nodes = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf: SHA-256 of 0x00 and the data."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256 of 0x01 and both children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def completed(index: int, leaf: bytes, nodes: Nodes) -> Iterator[tuple[int, int, bytes]]:
    """The nodes that appending the leaf hash at this index completes, as (level, index, hash), lowest first."""
    level, here = 0, leaf
    yield level, index, here
    while index & 1:
        here = node_hash(nodes(level, index - 1), here)
        level, index = level + 1, index >> 1
        yield level, index, here


def root(size: int, nodes: Nodes) -> bytes:
    """The root of the first ``size`` leaves; of none, SHA-256 of nothing."""
    return _range_hash(0, size, nodes) if size else hashlib.sha256(b"").digest()


def inclusion(index: int, size: int, nodes: Nodes) -> tuple[bytes, ...]:
    """The audit path of the leaf at ``index`` in the tree of this size, lowest first.

    Raises:
        IndexError: the tree has no such leaf.
    """
    if not 0 <= index < size:
        raise IndexError(f"no leaf {index} in a tree of {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(_range_hash(middle, end, nodes))
            end = middle
        else:
            path.append(_range_hash(start, middle, nodes))
            start = middle
    return tuple(reversed(path))


def consistency(old: int, new: int, nodes: Nodes) -> tuple[bytes, ...]:
    """The proof that the tree of size ``new`` continues the tree of size ``old``; empty for 0 and for equals.

    Raises:
        IndexError: ``old`` is larger than ``new``.
    """
    if not 0 <= old <= new:
        raise IndexError(f"no proof from {old} to {new} leaves")
    if old in (0, new):
        return ()
    proof: list[bytes] = []
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(_range_hash(middle, end, nodes))
            end = middle
        else:
            proof.append(_range_hash(start, middle, nodes))
            start, whole = middle, False
    if not whole:
        proof.append(_range_hash(start, end, nodes))
    return tuple(reversed(proof))


def includes(leaf: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Whether the path proves that this leaf hash is at ``index`` of the tree with this size and root."""
    if not 0 <= index < size:
        return False
    here, last, hashed = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if here & 1 or here == last:
            hashed = node_hash(sibling, hashed)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            hashed = node_hash(hashed, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and hashed == expected_root


def continues(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the proof shows that the tree ``new`` holds the tree ``old`` as its beginning."""
    if old > new or old < 0:
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    here, last = old - 1, new - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old_hash = new_hash = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            old_hash, new_hash = node_hash(sibling, old_hash), node_hash(sibling, new_hash)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            new_hash = node_hash(new_hash, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and old_hash == old_root and new_hash == new_root


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << (size - 1).bit_length() - 1


def _range_hash(start: int, end: int, nodes: Nodes) -> bytes:
    """The hash over leaves ``start`` up to ``end``, where the tree has such a subtree."""
    size = end - start
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return nodes(level, start >> level)
    middle = start + _split(size)
    return node_hash(_range_hash(start, middle, nodes), _range_hash(middle, end, nodes))


WIDTH = 256
_PATH = re.compile(r"tile/(entries|[0-9]|[1-5][0-9]|6[0-3])/((?:x[0-9]{3}/)*[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z")


@dataclass(frozen=True)
class Tile:
    """One tile: its level (None: entries), its place, and how many of the 256 it holds."""

    level: int | None
    index: int
    width: int = WIDTH

    @property
    def path(self) -> str:
        """Where it is served: ``tile/0/x001/x234/067.p/8``."""
        text = f"{self.index:03d}" if self.index < 1000 else f"{self.index:0{3 * -(-len(str(self.index)) // 3)}d}"
        groups = [text[at : at + 3] for at in range(0, len(text), 3)]
        place = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        part = f".p/{self.width}" if self.width != WIDTH else ""
        return f"tile/{'entries' if self.level is None else self.level}/{place}{part}"

    @classmethod
    def parse(cls, path: str) -> Tile:
        """The tile that is served at this path.

        Raises:
            InvalidInput: no path of a tile.
        """
        match = _PATH.match(path)
        tile = None
        if match and len(path) < 100:
            level = None if match[1] == "entries" else int(match[1])
            tile = cls(level, int(match[2].replace("x", "").replace("/", "")), int(match[3] or WIDTH))
        if tile is None or tile.width > WIDTH or tile.path != path:
            raise InvalidInput(f"not the path of a tile: {path[:100]!r}")
        return tile

    def check_within(self, size: int) -> None:
        """The log has this tile at this size.

        Raises:
            NotFound: it has not (yet).
        """
        available = size >> (8 * (self.level or 0))
        if self.index * WIDTH + self.width > available:
            raise NotFound(f"a log of {size} entries has no {self.path}")


def hash_tile(tile: Tile, size: int, nodes: Nodes) -> bytes:
    """The bytes of a tile of hashes in a log of this size.

    Raises:
        NotFound: the log has no such tile.
    """
    tile.check_within(size)
    level, first = 8 * (tile.level or 0), tile.index * WIDTH
    return b"".join(nodes(level, first + at) for at in range(tile.width))


def entry_tile(tile: Tile, size: int, leaf: Callable[[int], bytes]) -> bytes:
    """The bytes of a tile of entries.

    Raises:
        NotFound: the log has no such tile.
        InvalidInput: a leaf of 64 KiB or more.
    """
    tile.check_within(size)
    parts = []
    for index in range(tile.index * WIDTH, tile.index * WIDTH + tile.width):
        data = leaf(index)
        if len(data) >= 1 << 16:
            raise InvalidInput(f"entry {index} has {len(data)} bytes; a tile holds entries below 64 KiB")
        parts.append(len(data).to_bytes(2, "big") + data)
    return b"".join(parts)
