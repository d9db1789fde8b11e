"""Two data sets as one: the audit's own, and another domain that the user supplies.

Every check then runs on both, and the column ``domain`` distinguishes them: ``domain=own`` and ``domain=other`` are
slices like any other, so the loss in the other domain is paired, has its interval, and can have rules.  ``overall`` is
both together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from auditsvc.datasets.dataset import Batch, Dataset, SliceColumn, Slices
from auditsvc.errors import InvalidDataset
from auditsvc.records import DatasetRef, digest_of

DOMAIN, OWN, OTHER = "domain", "own", "other"


def join_domains(own: Dataset, other: Dataset) -> MultiDomainDataset:
    """Both data sets, the own images first.

    Raises:
        InvalidDataset: another task, other classes, images of another size, or a column named ``domain``.
    """
    reasons: list[str] = []
    if own.ref.task != other.ref.task:
        reasons.append(f"tasks differ: {own.ref.task}, {other.ref.task}")
    if own.classes != other.classes:
        reasons.append(f"classes differ: {', '.join(own.classes)}; {', '.join(other.classes)}")
    if DOMAIN in (*own.ref.slices, *other.ref.slices):
        reasons.append(f"a column is named {DOMAIN}, which is reserved for the two data sets")
    sizes = [tuple(next(data.batches(1)).images.shape[1:]) for data in (own, other)]
    if sizes[0] != sizes[1]:
        reasons.append(f"images differ in size: {sizes[0]}, {sizes[1]}")
    if reasons:
        raise InvalidDataset(f"{other.ref.name} can't be the other domain of {own.ref.name}", reasons)
    return MultiDomainDataset(own, other)


@dataclass(frozen=True)
class MultiDomainDataset:
    """Implements ``Dataset`` over two of them."""

    own: Dataset
    other: Dataset

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that both have."""
        return self.own.classes

    @cached_property
    def ref(self) -> DatasetRef:
        """Named by both contents, in their order."""
        first, second = self.own.ref, self.other.ref
        return DatasetRef(
            name=f"{first.name[:60]}.and.{second.name[:60]}",
            digest=digest_of(f"joined|{first.digest}|{second.digest}".encode()),
            task=first.task,
            images=first.images + second.images,
            slices=tuple(column.column for column in self.slices.columns),
            source=f"{first.source}; {second.source}",
            notes=(*(first.notes or ()), *(second.notes or ())) or None,
            suspected=(*(first.suspected or ()), *(second.suspected or ())) or None,
            independent=_both(first.independent, second.independent),
            lawful_basis=_both(first.lawful_basis, second.lawful_basis),
            licence=first.licence if first.licence == second.licence else f"{first.licence}; {second.licence}",
        )

    @cached_property
    def slices(self) -> Slices:
        """The columns of both, and ``domain``; an image is in no slice of a column that its data set lacks."""
        sizes = (self.own.ref.images, self.other.ref.images)
        codes = np.repeat(np.array([0, 1], np.int32), sizes)
        parts = [{column.column: column for column in data.slices.columns} for data in (self.own, self.other)]
        columns = [
            _column([part.get(name) for part in parts], sizes, name) for name in dict.fromkeys([*parts[0], *parts[1]])
        ]
        return Slices(sum(sizes), (SliceColumn(DOMAIN, (OWN, OTHER), codes), *columns), self._clusters(sizes))

    def _clusters(self, sizes: tuple[int, int]) -> NDArray[np.int64] | None:
        """The clusters of both; images of a data set without any are each one of their own."""
        both = [data.slices.clusters for data in (self.own, self.other)]
        if both[0] is None and both[1] is None:
            return None
        first, second = (np.arange(size) if part is None else part for part, size in zip(both, sizes, strict=True))
        return np.concatenate((first, second + 1 + first.max(initial=-1))).astype(np.int64)

    def batches(self, size: int, chosen: NDArray[np.int64] | None = None) -> Iterator[Batch]:
        """All images, or the chosen ones, in order; a batch may hold images of both."""
        numbers = np.arange(self.ref.images) if chosen is None else chosen
        for start in range(0, len(numbers), size):
            part = np.asarray(numbers[start : start + size], np.int64)
            mine = part < self.own.ref.images
            pieces = [(self.own, np.flatnonzero(mine), 0), (self.other, np.flatnonzero(~mine), self.own.ref.images)]
            read = [
                (places, next(data.batches(len(places), part[places] - offset)))
                for data, places, offset in pieces
                if len(places)
            ]
            order = torch.from_numpy(np.concatenate([places for places, _ in read])).argsort()
            images = torch.cat([batch.images for _, batch in read])[order]
            targets = _stacked([batch.targets for _, batch in read])[order]
            yield Batch(images, targets, torch.from_numpy(part))

    def target_of(self, index: int) -> torch.Tensor:
        """The target of one image."""
        data, place = self._located(index)
        return data.target_of(place)

    def name_of(self, index: int) -> str:
        """The image's name, behind the name of its domain."""
        data, place = self._located(index)
        return f"{OWN if data is self.own else OTHER}/{data.name_of(place)}"

    def index_of(self, name: str) -> int:
        """The number of the image of this name."""
        domain, _, rest = name.partition("/")
        return self.own.index_of(rest) if domain == OWN else self.own.ref.images + self.other.index_of(rest)

    def thumbnail(self, index: int) -> bytes:
        """The image as a small picture."""
        data, place = self._located(index)
        return data.thumbnail(place)

    def _located(self, index: int) -> tuple[Dataset, int]:
        size = self.own.ref.images
        return (self.own, index) if index < size else (self.other, index - size)


def _stacked(targets: Sequence[torch.Tensor]) -> torch.Tensor:
    """The targets of both, padded with -1 to the longer ones."""
    longest = max(part.shape[1] for part in targets) if targets[0].dim() > 1 else 0
    return torch.cat([
        part if part.dim() == 1 or part.shape[1] == longest else _padded(part, longest) for part in targets
    ])  # fmt: skip


def _padded(targets: torch.Tensor, longest: int) -> torch.Tensor:
    more = targets.new_full((len(targets), longest - targets.shape[1], *targets.shape[2:]), -1)
    return torch.cat((targets, more), dim=1)


def _both(first: str | None, second: str | None) -> str | None:
    """What both owners state; nothing where one states nothing."""
    return f"{first}; {second}" if first and second else None


def _column(both: list[SliceColumn | None], sizes: tuple[int, int], name: str) -> SliceColumn:
    """One column over both data sets: the union of its slices."""
    titles = dict.fromkeys(
        (label, title) for column in both if column for label, title in zip(column.labels, column.names, strict=True)
    )
    place = {title: number for number, (_, title) in enumerate(titles)}
    codes = [
        np.full(size, -1, np.int32)
        if column is None
        else np.array([*(place[title] for title in column.names), -1], np.int32)[column.codes]
        for column, size in zip(both, sizes, strict=True)
    ]
    labels, names = tuple(label for label, _ in titles), tuple(title for _, title in titles)
    return SliceColumn(name, labels, np.concatenate(codes), names)
