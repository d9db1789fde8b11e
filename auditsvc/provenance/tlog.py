"""The Merkle tree of a transparency log: hashes, roots and proofs, with no storage in it.

A tree is read through ``Nodes``, a function that gives the hash of a *complete* subtree: ``nodes(level,
index)`` covers the ``2**level`` leaves from ``index * 2**level``.  A log needs to keep those nodes only;
appending a leaf completes some, and every root and proof is made of O(log n) of them.

Reference: B. Laurie, A. Langley, E. Kasper (2013), "Certificate Transparency", RFC 6962 section 2.1;
the proof checks follow RFC 9162 (2021), sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

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
