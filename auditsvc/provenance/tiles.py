"""A log as tiles: files that never change, from which any client computes its own proofs.

A tile of level ``L`` holds up to 256 hashes of complete subtrees of ``2**(8*L)`` leaves; an entry tile
holds the leaves themselves, each with its length in two bytes before it.  A web server or an object
store can serve them; the log itself need not answer questions.

Reference: C2SP (2024), "tlog-tiles", https://c2sp.org/tlog-tiles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from auditsvc.errors import InvalidInput, NotFound
from auditsvc.provenance.tlog import Nodes, node_hash

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


def tiles_of(size: int) -> Iterator[Tile]:
    """Every tile of a log of this size, partial ones included: what a static copy needs."""
    for level in [None, *range(64)]:
        available = size >> (8 * (level or 0))
        if not available:
            return
        for index in range(-(-available // WIDTH)):
            yield Tile(level, index, min(WIDTH, available - index * WIDTH))


def nodes_from_tiles(read: Callable[[Tile], bytes], size: int) -> Nodes:
    """A reader's view of a log of this size, computed from its tiles; what ``tlog`` makes proofs of."""

    def nodes(level: int, index: int) -> bytes:
        tile_level, within = divmod(level, 8)
        first = index << within
        tile_index = first // WIDTH
        available = size >> (8 * tile_level)
        tile = Tile(tile_level, tile_index, min(WIDTH, available - tile_index * WIDTH))
        data = read(tile)
        at = first % WIDTH
        return _fold([data[32 * i : 32 * i + 32] for i in range(at, at + (1 << within))])

    return nodes


def _fold(hashes: Sequence[bytes]) -> bytes:
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]
