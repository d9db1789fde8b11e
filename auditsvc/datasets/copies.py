"""Equal images: digests of decoded pixels, and clusters of what is the same image.

Two files with the same pixels are one image, whatever their names, formats and metadata.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from auditsvc.datasets.dataset import Dataset, Slices
from auditsvc.datasets.prediction_table import PredictedDataset
from auditsvc.datasets.slicing import ReslicedDataset


def pixel_digests(dataset: Dataset, tick: Callable[[int], None] = lambda _images: None) -> NDArray[np.uint64]:
    """``(N,)``: the first 64 bits of BLAKE2b over each decoded image, its pixels as 8-bit numbers, and its shape.

    Images of which only predictions are here have no pixels, and are known by their names.
    """
    if isinstance(dataset, PredictedDataset):
        found = pixel_digests(dataset.whole, tick)
        if len(np.unique(found)) > 1:
            return found
        names = [dataset.name_of(number).encode() for number in range(dataset.ref.images)]
        words = [hashlib.blake2b(name, digest_size=8, person=b"name").digest() for name in names]
        return np.array([int.from_bytes(digest, "little") for digest in words], np.uint64)
    found = np.zeros(dataset.ref.images, np.uint64)
    for batch in dataset.batches(64):
        pixels = (batch.images * 255).round().byte().numpy()
        for place, image in zip(batch.indices.tolist(), pixels, strict=True):
            made = hashlib.blake2b(image.tobytes(), digest_size=8, person=f"{image.shape}".encode()[:16])
            found[place] = int.from_bytes(made.digest(), "little")
        tick(len(pixels))
    return found


def with_copies(dataset: Dataset, groups: NDArray[np.integer]) -> Dataset:
    """The data set with images of one group ``(N,)`` in one cluster, together with the clusters that it declares."""
    slices = dataset.slices
    clusters = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    if slices.clusters is not None:
        clusters = _joined(np.unique(slices.clusters, return_inverse=True)[1].astype(np.int64), clusters)
    found = Slices(slices.images, slices.columns, clusters)
    if isinstance(dataset, ReslicedDataset):
        return replace(dataset, slices=found)
    return ReslicedDataset(dataset, found)


def _joined(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Images that share a cluster of either partition, directly or through others, share one of the result."""
    total = int(one.max()) + 1 + int(other.max()) + 1
    edges = coo_array((np.ones(len(one)), (one, int(one.max()) + 1 + other)), shape=(total, total))
    return np.asarray(connected_components(edges, directed=False)[1][one], np.int64)
