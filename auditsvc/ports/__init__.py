"""The outside world, as protocols.  ``auditsvc.adapters`` has one file for each; tests have working fakes.

Nothing above this line names MLflow, SQLAlchemy or a file system: a verb is given a ``Ports`` and uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from auditsvc.ports.jobs import Jobs, Result, Runner
from auditsvc.ports.registry import Placed, Registry
from auditsvc.ports.signing import KeyRole, Keys, Signer, Timestamps, Witnesses
from auditsvc.records import Digest, FileEntry, Moment, Record

if TYPE_CHECKING:
    from auditsvc.measuring import Dataset

__all__ = [
    "Blobs",
    "Clock",
    "Datasets",
    "Jobs",
    "KeyRole",
    "Keys",
    "Ledger",
    "Log",
    "Placed",
    "Ports",
    "Progress",
    "References",
    "Registry",
    "Result",
    "Runner",
    "Signer",
    "Tick",
    "Timestamps",
    "View",
    "Witnesses",
]

R = TypeVar("R", bound=Record)


class Clock(Protocol):
    """The time."""

    def now(self) -> Moment:
        """UTC, to the second."""
        ...


class View(Protocol):
    """What can be read of the ledger."""

    def get(self, kind: type[R], digest: Digest) -> R:
        """The record of this kind with this digest.

        Raises:
            NotFound: there is none.
        """
        ...

    def find(self, kind: type[R], subject: str) -> tuple[R, ...]:
        """All records of this kind about this subject, oldest first; see ``Record.subjects``."""
        ...

    def page(
        self, kind: type[R], *, subject: str = "", before: int | None = None, limit: int = 20
    ) -> tuple[tuple[int, R], ...]:
        """At most ``limit`` records with their positions, newest first, older than ``before``, about ``subject``."""
        ...


class Ledger(View, Protocol):
    """Append-only store of records, with a Merkle log over it.  Nothing is ever changed or deleted."""

    def append(self, *records: Record, actor: str) -> None:
        """Add records, and one log event for each, all or none; a record that is there already is left alone.

        Raises:
            Conflict: a constraint of the ledger forbids it (who submitted can't approve).
            Unavailable: the store can't be written.
        """
        ...

    def snapshot(self) -> AbstractContextManager[View]:
        """The ledger as it is at the first look-up: for a few that belong together; what is added later is not seen."""
        ...

    def all(self, kind: type[R]) -> Iterator[R]:
        """All records of this kind, oldest first."""
        ...


class Log(Protocol):
    """The transparency log over the ledger."""

    def leaf_index(self, object_digest: Digest) -> int:
        """Where this object was logged first.  Raises ``NotFound``."""
        ...

    def leaf(self, index: int) -> bytes:
        """The bytes of one leaf.  Raises ``NotFound``."""
        ...

    def append_leaf(self, data: bytes) -> int:
        """Log these bytes (an attestation's entry) and return the index; the same bytes keep their index."""
        ...

    def size(self) -> int:
        """The number of leaves."""
        ...

    def root(self, size: int) -> bytes:
        """The root hash of the first ``size`` leaves."""
        ...

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The audit path of one leaf in the tree of this size."""
        ...

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the tree of size ``new`` continues the tree of size ``old``."""
        ...


class Blobs(Protocol):
    """Content-addressed files.  A blob is there whole, or it is not there."""

    def put(self, data: bytes) -> Digest:
        """Store these bytes; returns their digest."""
        ...

    def put_file(self, path: Path) -> FileEntry:
        """Store a file, streaming; the entry's name is the file's own."""
        ...

    def read(self, digest: Digest) -> bytes:
        """The bytes, checked against the digest.  Raises ``NotFound``, ``Unavailable``."""
        ...

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        ...

    def checkout(self, files: Sequence[FileEntry], folder: Path) -> None:
        """Write these files into an empty or absent folder, atomically: the folder appears whole."""
        ...


class Datasets(Protocol):
    """Data sets by content."""

    def open(self, path: Path) -> Dataset:
        """Read a data set folder, or one description in it, and check it.  Raises ``InvalidDataset``."""
        ...


class References(Protocol):
    """Models that lie elsewhere, by their address."""

    def fetch(self, address: str, folder: Path) -> None:
        """Copy the files of the model folder at this address into ``folder``.

        Raises:
            InvalidInput: it is no address.
            Forbidden: the operator did not allow this place.
            NotFound: there is nothing.
            Refused: something else lies there than the files of a model, or larger ones.
            Unavailable: it can't be read.
        """
        ...


class Progress(Protocol):
    """Tells somebody how long work goes: what, how many, how long still."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Tick]:
        """A step with a title and, where known, the number of ticks in it.

        Raises:
            Cancelled: at the next step or tick after the job was stopped.
        """
        ...

    def say(self, line: str) -> None:
        """One line that stays."""
        ...


class Tick(Protocol):
    """Called once for each finished unit of a step."""

    def __call__(self, units: int = 1) -> None:
        """So many more units are done."""
        ...


@dataclass(frozen=True)
class Ports:
    """All of the outside world that the verbs need."""

    ledger: Ledger
    log: Log
    blobs: Blobs
    registry: Registry
    datasets: Datasets
    keys: Keys
    clock: Clock
    progress: Progress
    folder: Path
    """Where releases and reports are written."""
    checkpoint: Path | None = None
    """Where the log's last signed checkpoint is kept, best on another disk than the ledger; none means ``folder``."""
    timestamps: Timestamps | None = None
    """Who stamps signatures with the time, if anybody."""
    witnesses: Witnesses | None = None
    """Who cosigns the log's checkpoints, if anybody."""
    references: References | None = None
    """Where models may be fetched from by address, if anywhere."""
    device: str = "cpu"
    """Where models run while they are measured."""
