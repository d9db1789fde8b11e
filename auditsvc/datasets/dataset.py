"""Data sets as the evaluation sees them: images in batches, targets, and slices from metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auditsvc.records import OVERALL, DatasetRef

MISSING = "(missing)"
"""The slice of images whose metadata column is empty: never dropped, a slice of its own."""


BLOCK = 2**17
"""Images summed at once."""


@dataclass(frozen=True)
class Batch:
    """Some images of a data set: ``images`` (N, C, H, W) float32 in 0..1, ``indices`` (N,), and ``targets``, one entry
    for each image in its task's form: (N,) for classification, see ``auditsvc.tasks``."""

    images: Tensor
    targets: Tensor
    indices: Tensor


@dataclass(frozen=True)
class SliceColumn:
    """One metadata column as a partition: ``codes`` (N,) int32 into ``labels``; -1 is in no slice of it."""

    column: str
    labels: tuple[str, ...]
    codes: NDArray[np.int32]
    titles: tuple[str, ...] | None = None
    """The slices' names, where they are not ``column=label``."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The slices of this column: ``gender=F``."""
        return self.titles or tuple(f"{self.column}={label}" for label in self.labels)


@dataclass(frozen=True)
class Slices:
    """All slices of a data set.  ``overall`` is every image; each column adds one slice for each value."""

    images: int
    columns: tuple[SliceColumn, ...]
    clusters: NDArray[np.int64] | None = None
    """``(N,)``: which video, patient or writer each image is of, where images are not independent."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """``overall`` first, then column by column."""
        return (OVERALL, *(name for column in self.columns for name in column.names))

    def sums(self, values: NDArray[Any], chosen: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
        """The sum of ``values`` over each slice, in the order of ``names``; ``chosen`` are the images they are of.

        Whatever numbers they are, they are added in float64, ``BLOCK`` images at a time: a million truth values take
        a megabyte and not eight.
        """
        total = np.zeros(len(self.names))
        for start in range(0, len(values), BLOCK):
            place = slice(start, start + BLOCK)
            numbers = values[place].astype(np.float64)
            parts = [np.array([numbers.sum()])]
            for column in self.columns:
                codes = column.codes[place if chosen is None else chosen[place]]
                parts.append(np.bincount(codes + 1, weights=numbers, minlength=len(column.labels) + 1)[1:])
            total += np.concatenate(parts)
        return total

    def of(self, index: int) -> tuple[str, ...]:
        """The slices that one image belongs to, without ``overall``."""
        return tuple(column.names[column.codes[index]] for column in self.columns if column.codes[index] >= 0)


def column_from(name: str, values: Sequence[str]) -> SliceColumn:
    """A partition from one metadata column; an empty value is the slice ``(missing)``."""
    words = [value.strip() or MISSING for value in values]
    labels, codes = np.unique(np.array(words, dtype=object).astype(str), return_inverse=True)
    return SliceColumn(name, tuple(str(label) for label in labels), codes.astype(np.int32))


class Dataset(Protocol):
    """A data set that can be read again and again in the same order, without holding its images."""

    @property
    def ref(self) -> DatasetRef:
        """What it is, by content."""

    @property
    def slices(self) -> Slices:
        """The partitions that its metadata declares."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names, in the order of the targets' numbers."""

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """All images, or the chosen ones, in order, ``size`` at a time.

        Raises:
            InvalidDataset: an image that can't be read.
        """

    def target_of(self, index: int) -> Tensor:
        """The target of one image; for classification a number."""

    def name_of(self, index: int) -> str:
        """The image's name in the metadata."""

    def index_of(self, name: str) -> int:
        """The number of the image of this name."""

    def thumbnail(self, index: int) -> bytes:
        """The image as a small PNG or JPEG, for people."""
