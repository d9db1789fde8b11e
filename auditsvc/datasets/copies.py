"""Equal and nearly equal images: digests of decoded pixels, small thumbnails, and groups of what is the same image.

Two files with the same pixels are one image, whatever their names, formats and metadata.  Two images are nearly equal
if the correlation of their thumbnails says that they are one picture: saved again, scaled, brighter, mirrored, or the
next frame.  How alike two different images are depends on the data set, so the distance of a pair counts as a share of
that of two images drawn from it, which makes the limit ``NEAR`` hold for digits as for landscapes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from torch.nn.functional import adaptive_avg_pool2d

from auditsvc.datasets.dataset import Dataset, Slices
from auditsvc.datasets.image_properties import luma
from auditsvc.datasets.prediction_table import PredictedDataset
from auditsvc.datasets.slicing import ReslicedDataset

SIDE = 16
NEAR = 0.06
"""The distance of nearly equal images, as a share of that of two random images; the guide has the figures behind it."""
FLOOR, FLAT = 0.3, 4 / 255
"""The least distance of random images (of vectors of length 1), and the least range of an image that is compared."""
SHARE, FEWEST = 0.05, 10
"""The share and the number of nearly equal images from which on there are probably more that are not found."""
DIMENSIONS, NEIGHBOURS, PAIRS, BLOCK = 16, 9, 20_000, 8192

Thumbnails = NDArray[np.uint8]
"""``(N, SIDE, SIDE)``, grey, from black to white; 0 for an image of about one colour."""
Numbers = NDArray[np.float32]


def fingerprints(
    dataset: Dataset, tick: Callable[[int], None] = lambda _images: None
) -> tuple[NDArray[np.uint64], Thumbnails]:
    """``(N,)`` the first 64 bits of BLAKE2b over each decoded image, its pixels as 8-bit numbers and its shape; and all
    thumbnails.

    Images of which only predictions are here have no pixels, and are known by their names.
    """
    if isinstance(dataset, PredictedDataset):
        found, thumbnails = fingerprints(dataset.whole, tick)
        if len(np.unique(found)) > 1:
            return found, thumbnails
        names = [dataset.name_of(number).encode() for number in range(dataset.ref.images)]
        words = [hashlib.blake2b(name, digest_size=8, person=b"name").digest() for name in names]
        return np.array([int.from_bytes(digest, "little") for digest in words], np.uint64), thumbnails
    found = np.zeros(dataset.ref.images, np.uint64)
    thumbnails = np.zeros((dataset.ref.images, SIDE, SIDE), np.uint8)
    for batch in dataset.batches(64):
        pixels = (batch.images * 255).round().byte().numpy()
        for place, image in zip(batch.indices.tolist(), pixels, strict=True):
            made = hashlib.blake2b(image.tobytes(), digest_size=8, person=f"{image.shape}".encode()[:16])
            found[place] = int.from_bytes(made.digest(), "little")
        small = adaptive_avg_pool2d(luma(batch.images)[:, None], (SIDE, SIDE))[:, 0]
        least, most = small.amin((1, 2), keepdim=True), small.amax((1, 2), keepdim=True)
        scale = torch.where(most - least >= FLAT, 255 / (most - least).clamp_min(1e-6), 0)
        thumbnails[batch.indices.numpy()] = ((small - least) * scale).round().byte().numpy()
        tick(len(pixels))
    return found, thumbnails


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
    chance = np.random.default_rng(0)
    random = [_vectors(theirs[chance.choice(places, PAIRS)]) for _ in range(2)]
    bound = NEAR * max(float(np.median(np.linalg.norm(random[0] - random[1], axis=1))), FLOOR)
    basis = np.linalg.eigh(np.cov(random[0].T))[1][:, -DIMENSIONS:].astype(np.float32)
    tree = cKDTree(np.concatenate([_vectors(theirs[part]) @ basis for part in _parts(places)]))
    found = []
    for part in _parts(mine):
        for images in (ours[part], ours[part][:, :, ::-1]):
            vectors = _vectors(images)
            _, near = tree.query(vectors @ basis, np.arange(1, NEIGHBOURS + 1), distance_upper_bound=bound)
            row, column = np.nonzero(near < len(places))
            there = places[near[row, column]]
            close = np.linalg.norm(vectors[row] - _vectors(theirs[there]), axis=1) <= bound
            close &= (part[row] != there) | (ours is not theirs)
            found.append(np.stack((part[row][close], there[close])))
    one, other = np.concatenate(found, axis=1)
    return one, other


def _compared(images: Thumbnails) -> NDArray[np.int64]:
    return np.flatnonzero(images.any((1, 2)))


def _parts(places: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [places[start : start + BLOCK] for start in range(0, len(places), BLOCK)]


def _vectors(images: Thumbnails) -> Numbers:
    """``(N, SIDE * SIDE)`` of mean 0 and length 1: their products are correlations."""
    found = images.reshape(len(images), SIDE * SIDE).astype(np.float32)
    found -= found.mean(1, keepdims=True)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True), np.float32)


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
