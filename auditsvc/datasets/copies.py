"""Equal and nearly equal images: digests of decoded pixels, small thumbnails, and groups of what is the same image.

Two files with the same pixels are one image, whatever their names, formats and metadata.  Two images are nearly equal
if the correlation of their thumbnails says that they are one picture: saved again, scaled, brighter, mirrored, or the
next frame.  How alike two different images are depends on the data set, so the distance of a pair counts as a share of
that of two images drawn from it, and the limit follows how near the nearest others are: it holds for digits as for
landscapes.

A cropped copy equals a window of the other image.  Windows on a grid are compared within the wider limit ``COARSE``;
where one is so near, its four edges are moved to where the two agree best, and the limit of whole images counts.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch import Tensor

from auditsvc.datasets.dataset import Dataset, Slices
from auditsvc.datasets.image_properties import luma
from auditsvc.datasets.prediction_table import PredictedDataset
from auditsvc.datasets.slicing import ReslicedDataset

SIDE, COMPARED = 32, 16
"""Pixels of a side of a thumbnail, and of what is compared of it."""
NEAR, COARSE = (0.3, 0.06, 0.12), (1.2, 0.2, 0.36)
"""The limit of nearly equal images, and that of windows whose edges are moved then (the guide has the figures behind
them): a share of the median distance of an image to the nearest other one, because digits are nearer than faces; and
the least and the largest limit, as shares of the distance of two random images."""
WINDOWS = {0.96: 3, 0.92: 3, 0.88: 5, 0.84: 5, 0.8: 5}
"""Sides of windows as shares of the image's, and at how many places along each side they are."""
MOST_WINDOWED = 2000
"""More images are compared with windows around the centre alone, because the search of all windows is slow."""
MOVES = (0.02, 0.01, 0.005, 0.0025)
"""By how much the edges of a window are moved, coarse to fine."""
FLOOR, FLAT = 0.3, 4 / 255
"""The least distance of random images (of vectors of length 1), and the least range of an image that is compared."""
CLIPPED, DARK = 0.5, 4 / 255
"""The share of black or white pixels of an image that shows nothing, and what is black; white is as near to 1."""
SHARE, FEWEST = 0.05, 10
"""The share and the number of nearly equal images from which on there are probably more that are not found."""
DIMENSIONS, NEIGHBOURS, PAIRS, SAMPLED, BLOCK = 16, 9, 20_000, 500, 8192

Thumbnails = NDArray[np.uint8]
"""``(N, SIDE, SIDE)``, grey, from black to white; 0 for an image of about one colour."""
Numbers = NDArray[np.float32]


class Fingerprints(NamedTuple):
    """Of every image of a data set: a digest of its pixels, its thumbnail, and whether it shows anything."""

    digests: NDArray[np.uint64]
    thumbnails: Thumbnails
    clipped: NDArray[np.float32]
    """``(N, 2)``: the shares of its pixels that are black and that are white; 0 where there are no pixels."""

    @property
    def unusable(self) -> dict[str, NDArray[np.int64]]:
        """Images of about one colour, and those whose pixels are mostly black or white where those of the data set are
        not: a digit on black is no dark photo."""
        blank = ~self.thumbnails.any((1, 2)) & self.clipped.any()
        found = {"blank": blank}
        for place, name in enumerate(("under-exposed", "over-exposed")):
            share = self.clipped[:, place]
            found[name] = (share > CLIPPED) & (np.median(share) < CLIPPED / 2) & ~blank
        return {name: np.flatnonzero(which) for name, which in found.items()}


def fingerprints(dataset: Dataset, tick: Callable[[int], None] = lambda _images: None) -> Fingerprints:
    """Digests are the first 64 bits of BLAKE2b over each decoded image, its pixels as 8-bit numbers and its shape.

    Images of which only predictions are here have no pixels, and are known by their names.
    """
    if isinstance(dataset, PredictedDataset):
        whole = fingerprints(dataset.whole, tick)
        if len(np.unique(whole.digests)) > 1:
            return whole
        found = name_digests([dataset.name_of(number) for number in range(dataset.ref.images)])
        return whole._replace(digests=found, clipped=np.zeros_like(whole.clipped))
    images = dataset.ref.images
    made = Fingerprints(
        np.zeros(images, np.uint64), np.zeros((images, SIDE, SIDE), np.uint8), np.zeros((images, 2), np.float32)
    )
    for batch in dataset.batches(64):
        number, part = batch.indices.numpy(), fingerprints_of(batch.images)
        made.digests[number], made.thumbnails[number], made.clipped[number] = part
        tick(len(number))
    return made


def fingerprints_of(images: Tensor) -> Fingerprints:
    """Those of images ``(N, C, H, W)`` in 0..1."""
    grey, pixels = luma(images), (images * 255).round().byte().numpy()
    words = [hashlib.blake2b(one.tobytes(), digest_size=8, person=f"{one.shape}".encode()[:16]) for one in pixels]
    rows, columns = (torch.from_numpy(_means(length)) for length in grey.shape[1:])
    small = rows @ grey @ columns.T
    least, most = small.amin((1, 2), keepdim=True), small.amax((1, 2), keepdim=True)
    scale = torch.where(most - least >= FLAT, 255 / (most - least).clamp_min(1e-6), 0)
    return Fingerprints(
        np.array([int.from_bytes(one.digest(), "little") for one in words], np.uint64),
        ((small - least) * scale).round().byte().numpy(),
        torch.stack([(grey <= DARK).float(), (grey >= 1 - DARK).float()]).mean((2, 3)).T.numpy(),
    )


def name_digests(names: Sequence[str]) -> NDArray[np.uint64]:
    """``(N,)``: the first 64 bits of BLAKE2b over each name."""
    words = [hashlib.blake2b(name.encode(), digest_size=8, person=b"name").digest() for name in names]
    return np.array([int.from_bytes(digest, "little") for digest in words], np.uint64)


@cache
def _means(length: int) -> Numbers:
    """``(SIDE, length)``: means over equal parts of a side, its pixels joined by straight lines: about the same for any
    number of pixels."""
    fine = 8
    at = ((np.arange(SIDE * fine) + 0.5) / (SIDE * fine) * length - 0.5).clip(0, length - 1)
    weights = (1 - abs(at[:, None] - np.arange(length))).clip(0, None)
    return np.asarray(weights.reshape(SIDE, fine, length).mean(1), np.float32)


def thumbnails_from(data: bytes, images: int) -> Thumbnails:
    """Stored thumbnails of this many images; version 0.1 stored smaller ones."""
    found = np.frombuffer(data, np.uint8)
    side = math.isqrt(len(found) // images)
    return found.reshape(images, side, side).repeat(SIDE // side, 1).repeat(SIDE // side, 2)


def image_groups(digests: NDArray[np.uint64], thumbnails: Thumbnails) -> tuple[NDArray[np.int64], int]:
    """``(N,)``: one number for what is the same image; and how many images nearly equal one with other pixels."""
    _, first, place = np.unique(digests, return_index=True, return_inverse=True)
    distinct = thumbnails[first]
    one, other = near_pairs(distinct, distinct)
    edges = coo_array((np.ones(len(one)), (one, other)), shape=(len(first), len(first)))
    groups = connected_components(edges, directed=False)[1][place]
    return groups.astype(np.int64), int(np.isin(place, np.concatenate((one, other))).sum())


def near_pairs(ours: Thumbnails, theirs: Thumbnails) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The places in ``ours`` and ``theirs`` of nearly equal images, of each some; where both are the same images, pairs
    of different places."""
    mine, places = _compared(ours), _compared(theirs)
    if not len(mine) or not len(places):
        return mine, places
    scale = _Scale.of(theirs, places)
    found = [*_equal_frames(ours, theirs, scale), *_cropped_copies(ours, theirs, scale)]
    if ours is not theirs:
        found += [pair[::-1] for pair in _cropped_copies(theirs, ours, scale)]
    one, other = np.concatenate(found, axis=1)
    return one, other


@dataclass(frozen=True)
class _Scale:
    """What distances are measured by: ``near`` and ``coarse`` are limits, ``basis`` where images differ most."""

    near: float
    coarse: float
    basis: Numbers

    @classmethod
    def of(cls, images: Thumbnails, places: NDArray[np.int64]) -> _Scale:
        chance = np.random.default_rng(0)
        drawn = chance.choice(len(places), PAIRS), chance.choice(len(places), PAIRS)
        among, which = np.unique(drawn, return_inverse=True)  # few images are drawn often
        one, other = _vectors(images[places[among]])[which.reshape(2, PAIRS)]
        random = max(float(np.median(np.linalg.norm(one - other, axis=1))), FLOOR)
        made = cls(0.0, 0.0, np.linalg.eigh(np.cov(one.T))[1][:, -DIMENSIONS:].astype(np.float32))
        nearest = made.tree(images, places).query(one[:SAMPLED] @ made.basis, [2])[0]
        usual = float(np.median(nearest)) if len(places) > 1 else 0.0
        near, coarse = (
            float(np.clip(share * usual, least * random, most * random)) for share, least, most in (NEAR, COARSE)
        )
        return replace(made, near=near, coarse=coarse)

    def tree(self, images: Thumbnails, places: NDArray[np.int64]) -> cKDTree:
        """For the nearest of these images."""
        return cKDTree(np.concatenate([_vectors(images[part]) @ self.basis for part in _parts(places)]))


def _equal_frames(ours: Thumbnails, theirs: Thumbnails, scale: _Scale) -> Iterator[NDArray[np.int64]]:
    """Pairs ``(2, P)`` of whole images that are nearly equal, or that one's mirror image is."""
    places, bound = _compared(theirs), scale.near
    tree = scale.tree(theirs, places)
    for part in _parts(_compared(ours)):
        for images in (ours[part], ours[part][:, :, ::-1]):
            vectors = _vectors(images)
            _, near = tree.query(vectors @ scale.basis, np.arange(1, NEIGHBOURS + 1), distance_upper_bound=bound)
            row, column = np.nonzero(near < len(places))
            there = places[near[row, column]]
            close = np.linalg.norm(vectors[row] - _vectors(theirs[there]), axis=1) <= bound
            close &= (part[row] != there) | (ours is not theirs)
            yield np.stack((part[row][close], there[close]))


def _windows(images: int) -> NDArray[np.float32]:
    """``(K, 4)``: left, top, right and bottom edge as shares of the image."""
    return np.array([
        (left, top, left + side, top + side)
        for side, places in WINDOWS.items()
        for starts in [np.linspace(0, 1 - side, places) if images <= MOST_WINDOWED else [(1 - side) / 2]]
        for left in starts
        for top in starts
    ], np.float32)  # fmt: skip


def _cropped_copies(ours: Thumbnails, theirs: Thumbnails, scale: _Scale) -> Iterator[NDArray[np.int64]]:
    """Pairs ``(2, P)``: a window of the one is nearly equal to the whole other."""
    places, bound = _compared(theirs), scale.coarse
    tree, windows = scale.tree(theirs, places), _windows(max(len(ours), len(theirs)))
    for part in _parts(_compared(ours)):
        best: dict[tuple[int, int], tuple[float, int]] = {}
        images = ours[part].astype(np.float32)
        for number, window in enumerate(windows):
            rows, columns = _grid(window)
            half = (images.reshape(-1, SIDE) @ columns.T).reshape(len(images), SIDE, COMPARED)
            vectors = _unit(np.tensordot(half, rows, (1, 1)).swapaxes(1, 2))
            _, near = tree.query(vectors @ scale.basis, (1, 2), distance_upper_bound=bound)
            row, column = np.nonzero(near < len(places))
            there = places[near[row, column]]
            far = np.linalg.norm(vectors[row] - _vectors(theirs[there]), axis=1)
            for place, other, distance in zip(row.tolist(), there.tolist(), far.tolist(), strict=True):
                if distance <= bound and (part[place] != other or ours is not theirs):
                    best[place, other] = min(best.get((place, other), (np.inf, 0)), (distance, number))
        if best:
            row, there = np.array(list(best), np.int64).T
            started = windows[[number for _, number in best.values()]]
            close = _aligned(_integral(ours[part][row]), started, _vectors(theirs[there])) <= scale.near
            yield np.stack((part[row][close], there[close]))


def _aligned(sums: Numbers, windows: Numbers, wanted: Numbers) -> Numbers:
    """``(N,)``: the least distance of windows to ``wanted`` that moving one edge at a time finds."""
    least: Numbers = np.linalg.norm(_unit(_window(sums, windows)) - wanted, axis=1)
    for step in MOVES:
        for _ in range(4):
            for edge in range(4):
                for way in (-step, step):
                    moved = windows.copy()
                    moved[:, edge] = (moved[:, edge] + way).clip(0, 1)
                    far = np.linalg.norm(_unit(_window(sums, moved)) - wanted, axis=1)
                    better = far < least
                    windows = np.where(better[:, None], moved, windows)
                    least = np.where(better, far, least)
    return least


def _integral(images: Thumbnails) -> Numbers:
    """``(N, SIDE + 1, SIDE + 1)``: the sum of all that is above and left of each corner of a pixel."""
    return np.asarray(np.pad(images.astype(np.float32).cumsum(1).cumsum(2), ((0, 0), (1, 0), (1, 0))))


def _window(sums: Numbers, windows: Numbers) -> Numbers:
    """``(N, COMPARED, COMPARED)``: the means over a grid of each image's window ``(N, 4)``."""
    steps = np.linspace(0, SIDE, COMPARED + 1, dtype=np.float32)
    rows, columns = (windows[:, one, None] * SIDE + (windows[:, one + 2] - windows[:, one])[:, None] * steps
                     for one in (1, 0))  # fmt: skip
    found = _between(sums, rows)
    return np.asarray(np.diff(np.diff(_between(found.swapaxes(1, 2), columns).swapaxes(1, 2), axis=1), axis=2))


def _grid(window: Numbers) -> tuple[Numbers, Numbers]:
    """``(COMPARED, SIDE)`` for rows and for columns: the weights of pixels in the means of ``_window``."""
    edges = np.linspace(window[:2], window[2:], COMPARED + 1).T[:, None] * SIDE
    columns, rows = (np.diff(_between(_PIXELS, one.astype(np.float32))[0], axis=0) for one in edges)
    return rows, columns


_PIXELS: Numbers = np.pad(np.eye(SIDE, dtype=np.float32).cumsum(0), ((1, 0), (0, 0)))[None]


def _between(sums: Numbers, at: Numbers) -> Numbers:
    """Rows of ``sums`` at places ``at`` ``(N, K)`` between whole ones."""
    whole = np.minimum(at.astype(np.int64), SIDE - 1)
    part = (at - whole)[:, :, None]
    number = np.arange(len(sums))[:, None]
    return np.asarray(sums[number, whole] * (1 - part) + sums[number, whole + 1] * part)


def _compared(images: Thumbnails) -> NDArray[np.int64]:
    return np.flatnonzero(images.any((1, 2)))


def _parts(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [places[start : start + BLOCK] for start in range(0, len(places), BLOCK)]


def _vectors(images: Thumbnails) -> Numbers:
    """``(N, COMPARED * COMPARED)`` of mean 0 and length 1: their products are correlations."""
    wide = SIDE // COMPARED
    return _unit(images.reshape(len(images), COMPARED, wide, COMPARED, wide).mean((2, 4), dtype=np.float32))


def _unit(images: Numbers) -> Numbers:
    found = images.reshape(len(images), COMPARED * COMPARED)
    found = found - found.mean(1, keepdims=True)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True).clip(1e-6), np.float32)


def with_copies(dataset: Dataset, groups: NDArray[np.integer], suspected: tuple[str, ...] = ()) -> Dataset:
    """The data set with images of one group ``(N,)`` in one cluster, together with the clusters that it declares.

    ``suspected`` is what they suggest of clusters that are not declared.
    """
    slices = dataset.slices
    clusters = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    if slices.clusters is not None:
        clusters = _joined(np.unique(slices.clusters, return_inverse=True)[1].astype(np.int64), clusters)
    found = Slices(slices.images, slices.columns, clusters)
    if isinstance(dataset, ReslicedDataset):
        return replace(dataset, slices=found, suspected=(*dataset.suspected, *suspected))
    return ReslicedDataset(dataset, found, suspected)


def _joined(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Images that share a cluster of either partition, directly or through others, share one of the result."""
    total = int(one.max()) + 1 + int(other.max()) + 1
    edges = coo_array((np.ones(len(one)), (one, int(one.max()) + 1 + other)), shape=(total, total))
    return np.asarray(connected_components(edges, directed=False)[1][one], np.int64)
