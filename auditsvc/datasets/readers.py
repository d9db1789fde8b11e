"""Data set readers: the interface of a format, and the selection of the reader for a path.

Each module of this package implements one format; installed packages add theirs in the entry-point group
``auditsvc.datasets``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from auditsvc.datasets.dataset import Dataset
from auditsvc.errors import InvalidDataset
from auditsvc.plugins import Registry, classes_in, concrete


@dataclass(frozen=True)
class Recognition:
    """Why a reader takes a path for its format.

    ``evidence`` names what was found there (``dataset.yaml``).  ``declared``: a file states the format, rather than
    the layout looking like it; declared formats have precedence.
    """

    evidence: str
    declared: bool = False


class DatasetReader(ABC):
    """Reads one format; ``format`` is its id, ``expects`` what a path of it must have."""

    format: ClassVar[str]
    expects: ClassVar[str]

    @abstractmethod
    def recognises(self, path: Path) -> Recognition | None:
        """Whether the path has this format, from names and headers alone; None if it does not."""

    @abstractmethod
    def read(self, path: Path) -> Dataset:
        """Read and check the whole data set.

        Raises:
            InvalidDataset: with every fault found.
            Unavailable: a file can't be read.
        """


READERS: Registry[type[DatasetReader]] = Registry(
    "auditsvc.datasets",
    lambda: ((reader.format, reader) for reader in classes_in(__package__, DatasetReader)),  # type: ignore[type-abstract]
    accepts=concrete(DatasetReader),
    id_of=lambda reader: reader.format,
)


class DatasetReaders:
    """Opens data sets of every installed format; implements ``ports.Datasets``."""

    def open(self, path: Path) -> Dataset:
        """Read and check the data set at a path.

        Raises:
            InvalidDataset: no reader recognises the path, several do, or the data set has faults.
            Unavailable: a file can't be read, or a plug-in can't be loaded.
        """
        return recognise(path)[0].read(path)


def recognise(path: Path) -> tuple[DatasetReader, Recognition]:
    """The reader whose format a path has, and why.

    Raises:
        InvalidDataset: none recognises the path, or several do.
        Unavailable: a plug-in can't be loaded.
    """
    readers = [reader() for reader in READERS.by_id.values()]
    found = [(reader, answer) for reader in readers if (answer := reader.recognises(path))]
    found = [(reader, answer) for reader, answer in found if answer.declared] or found
    if not found:
        problem = "no installed reader recognises it" if path.exists() else "there is no such file or folder"
        raise InvalidDataset(
            f"{path} is not a data set: {problem}", [f"{one.format} needs {one.expects}" for one in readers]
        )
    if len(found) > 1:
        raise InvalidDataset(
            f"{path} is ambiguous: several readers recognise it; name the file that describes the data set",
            [f"{reader.format}, because of {answer.evidence}" for reader, answer in found],
        )
    return found[0]


SPLITS = ("test", "testing", "val", "valid", "validation", "dev", "eval", "train", "training")
"""Names of the parts of a data set, the one to audit first."""


def evaluation_split(names: Iterable[str]) -> str | None:
    """The part to audit, of parts with names like ``val2017`` or ``instances_train``; None if others are there.

    Images that the model was trained on are chosen only where there are no others.
    """
    parts = {name: _part_of(name) for name in names}
    if not parts or None in parts.values():
        return None
    return min(parts, key=lambda name: SPLITS.index(str(parts[name])))


def _part_of(name: str) -> str | None:
    words = re.findall("[a-z]+", name.lower())
    return next((word for word in reversed(words) if word in SPLITS), None)


def name_from(path: Path) -> str:
    """A data set's name from its folder's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().stem).strip("-._")[:128] or "data"
