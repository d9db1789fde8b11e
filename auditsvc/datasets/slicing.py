"""Derived slices: binned numbers, products of columns, and expressions.

Products are formed only for combinations with enough images; the images of a product that is not formed are still
in the slices of its columns.  An expression names one slice, which may overlap any other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from auditsvc.datasets.dataset import MISSING, Batch, Dataset, SliceColumn, Slices
from auditsvc.errors import InvalidInput
from auditsvc.records import OVERALL, DatasetRef, Slicing, matches
from auditsvc.tasks import task_type

AND, OR, NOT = " & ", " | ", "not "


def bin_column(name: str, numbers: NDArray[np.float64], bins: int | Sequence[float]) -> SliceColumn:
    """A partition of a column of numbers ``(N,)``; NaN is the slice ``(missing)``.

    ``bins`` is a number of bins with about as many images in each, or the inner edges.  Each bin holds its
    lower edge and not its upper one; equal edges are one.
    """
    there = np.isfinite(numbers)
    inner = _quantiles(numbers[there], bins) if isinstance(bins, int) else np.unique(np.asarray(bins, float))
    codes = np.where(there, np.searchsorted(inner, np.where(there, numbers, 0.0), side="right"), len(inner) + 1)
    words = [f"{edge:.6g}" for edge in inner]
    if not words:
        labels = ["any"]
    else:
        middle = [f"{low}..{high}" for low, high in pairwise(words)]
        labels = [f"below {words[0]}", *middle, f"{words[-1]} and over"]
    used, codes = np.unique(codes, return_inverse=True)
    every = [*labels, MISSING]
    return SliceColumn(name, tuple(every[place] for place in used), codes.astype(np.int32))


def _quantiles(numbers: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """The inner edges of ``bins`` bins of about equal size, without edges that leave a bin empty."""
    if len(numbers) == 0:
        return np.array([])
    edges = np.unique(np.quantile(numbers, np.arange(1, bins) / bins))
    return np.asarray(edges[edges > numbers.min()])


def cross_columns(columns: Sequence[SliceColumn], depth: int, min_images: int) -> tuple[SliceColumn, ...]:
    """The products of 2 up to ``depth`` of these columns: ``gender=F & age=65+``, if it has enough images.

    An image of a combination that was not formed is in no slice of that product.
    """
    products = (_product(chosen, min_images) for size in range(2, depth + 1) for chosen in combinations(columns, size))
    return tuple(product for product in products if product.labels)


def _product(columns: Sequence[SliceColumn], min_images: int) -> SliceColumn:
    sizes = tuple(len(column.labels) for column in columns)
    inside = np.all([column.codes >= 0 for column in columns], axis=0)
    cells = np.ravel_multi_index([np.maximum(column.codes, 0) for column in columns], sizes)
    counts = np.bincount(cells[inside], minlength=int(np.prod(sizes)))
    kept = np.flatnonzero(counts >= max(min_images, 1))
    place = np.full(len(counts), -1, np.int32)
    place[kept] = np.arange(len(kept))
    titles = tuple(
        AND.join(column.names[int(code)] for column, code in zip(columns, codes, strict=True))
        for codes in zip(*np.unravel_index(kept, sizes), strict=True)
    )
    codes = np.where(inside, place[cells], -1).astype(np.int32)
    return SliceColumn(" * ".join(column.column for column in columns), titles, codes, titles)


def named(name: str, expression: str, slices: Slices) -> SliceColumn:
    """One slice from an expression over slices that are there: ``gender=F & age=65+ | not region=West``.

    `` & `` binds before `` | ``; ``not`` precedes one slice, and a ``*`` in a name matches any run of characters.

    Raises:
        InvalidInput: a name that fits no slice, or an expression that no image fits.
    """
    inside = np.zeros(slices.images, bool)
    for branch in expression.split(OR):
        inside |= np.all([_term(term.strip(), slices, name) for term in branch.split(AND)], axis=0)
    if not inside.any():
        raise InvalidInput(f"the slice {name!r} is empty: no image is {expression}")
    return SliceColumn(name, (name,), np.where(inside, 0, -1).astype(np.int32), (name,))


def _term(term: str, slices: Slices, name: str) -> NDArray[np.bool_]:
    wanted = term.removeprefix(NOT)
    inside = np.zeros(slices.images, bool)
    fits = False
    for column in slices.columns:
        places = [place for place, title in enumerate(column.names) if matches(wanted, title)]
        fits = fits or bool(places)
        inside |= np.isin(column.codes, places)
    if not fits:
        known = ", ".join(title for title in slices.names if title != OVERALL)
        raise InvalidInput(f"the slice {name!r} names {wanted!r}, which fits no slice; there are {known}")
    return ~inside if term.startswith(NOT) else inside


CLASS = "class"
"""The column of the classes, where a policy makes slices of them."""


def class_column(dataset: Dataset) -> SliceColumn:
    """The classes that the images have, as a partition.

    Raises:
        InvalidInput: images that have no class of their own.
    """
    if task_type(dataset.ref.task).target_kind != "class":
        raise InvalidInput(f"slices by class are for classification; in {dataset.ref.task} an image has no class")
    targets = np.array([int(dataset.target_of(number)) for number in range(dataset.ref.images)])
    used, codes = np.unique(targets, return_inverse=True)
    return SliceColumn(CLASS, tuple(dataset.classes[number] for number in used), codes.astype(np.int32))


def apply_slicing(slices: Slices, slicing: Slicing, properties: Mapping[str, NDArray[np.float64]]) -> Slices:
    """The slices that a policy defines, and those of the data set; ``properties`` are the images' own numbers.

    Raises:
        InvalidInput: a column or a slice that the data set does not have.
    """
    measured = tuple(bin_column(name, properties[name], bins) for name, bins in sorted(slicing.image.items()))
    single = Slices(slices.images, (*slices.columns, *measured), slices.clusters)
    known = {column.column: column for column in single.columns}
    wanted = slicing.columns if slicing.columns is not None else tuple(known)
    absent = [name for name in wanted if name not in known]
    if absent:
        raise InvalidInput(f"the policy crosses {', '.join(absent)}; there are {', '.join(known) or 'none'}")
    own = tuple(named(name, expression, single) for name, expression in sorted(slicing.named.items()))
    products = cross_columns([known[name] for name in wanted], slicing.depth, slicing.min_images)
    return Slices(slices.images, (*single.columns, *products, *own), slices.clusters)


@dataclass(frozen=True)
class ReslicedDataset:
    """A data set with other slices; implements ``Dataset``.  Images, targets and digest are the same."""

    whole: Dataset
    slices: Slices
    suspected: tuple[str, ...] = ()
    """What else suggests clusters that the data set does not declare."""

    @property
    def ref(self) -> DatasetRef:
        """What it is, by content."""
        ref = self.whole.ref
        if not self.suspected or ref.independent:
            return ref
        return ref.model_copy(update={"suspected": (*(ref.suspected or ()), *self.suspected)})

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names."""
        return self.whole.classes

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """All images, or the chosen ones, in order, ``size`` at a time."""
        return self.whole.batches(size, chosen)

    def target_of(self, index: int) -> Tensor:
        """The target of one image."""
        return self.whole.target_of(index)

    def name_of(self, index: int) -> str:
        """The image's name."""
        return self.whole.name_of(index)

    def index_of(self, name: str) -> int:
        """The number of the image of this name."""
        return self.whole.index_of(name)

    def thumbnail(self, index: int) -> bytes:
        """The image as a small picture."""
        return self.whole.thumbnail(index)


def subjects_of(dataset: Dataset) -> tuple[str, ...] | None:
    """The declared cluster of each image by its column and value; None where the data set declares none."""
    while isinstance(dataset, ReslicedDataset):
        dataset = dataset.whole
    return getattr(dataset, "subjects", None)
