"""A tree over the sixteen sub-keys, so that one can be shown, and proved to be committed to, alone.

Leaves and nodes are hashed as in RFC 6962 (a zero byte before a leaf, a one before a node).

Reference: B. Laurie et al. (2013), "Certificate Transparency", RFC 6962.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from auditsvc.errors import InvalidInput
from auditsvc.records import Digest
from auditsvc.watermark.watermark_keys import LANES, derive_subkeys


@dataclass(frozen=True)
class Reveal:
    """One sub-key with its path to the committed root; the other fifteen stay secret."""

    lane: int
    subkey: bytes
    path: tuple[bytes, ...]


def subkeys_root(seed: bytes) -> Digest:
    """The root of the tree over a seed's sub-keys; it goes into the public mark."""
    return "sha256:" + _levels(seed)[-1][0].hex()


def reveal_subkey(seed: bytes, lane: int) -> Reveal:
    """One sub-key, ready to be shown.

    Raises:
        InvalidInput: no such lane.
    """
    if not 0 <= lane < LANES:
        raise InvalidInput(f"sub-keys are numbered 0 to {LANES - 1}; there is no {lane}")
    path = tuple(level[(lane >> depth) ^ 1] for depth, level in enumerate(_levels(seed)[:-1]))
    return Reveal(lane, derive_subkeys(seed)[lane], path)


def require_revealed(reveal: Reveal, root: Digest) -> None:
    """Refuse a sub-key that the root does not commit to.

    Raises:
        InvalidInput: the path does not lead from this sub-key to the root.
    """
    node = _leaf(reveal.subkey)
    for depth, sibling in enumerate(reveal.path):
        node = _node(sibling, node) if reveal.lane >> depth & 1 else _node(node, sibling)
    if 2 ** len(reveal.path) != LANES or "sha256:" + node.hex() != root:
        raise InvalidInput("the sub-key that was shown is not one that the mark commits to")


def _levels(seed: bytes) -> list[list[bytes]]:
    """All levels of the tree, leaves first, root last."""
    levels = [[_leaf(subkey) for subkey in derive_subkeys(seed)]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([_node(below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels


def _leaf(subkey: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + subkey).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
