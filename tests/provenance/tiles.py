"""A reader that knows a log by its tiles alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from auditsvc.provenance.formats.merkle_log import WIDTH, Nodes, Tile, node_hash


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
