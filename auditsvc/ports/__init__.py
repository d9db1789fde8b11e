"""Protocols for everything outside the package: ledger, blobs, model registry, jobs, keys, timestamps, witnesses.

``auditsvc.adapters`` has an implementation of each, and the tests have fakes.  Services are given a ``Context`` and
never import MLflow, SQLAlchemy or fsspec themselves.

The module also holds the logging context (IDs of request and job) as a context variable, which the threads and tasks of
a request inherit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from auditsvc.records import (
    Candidate,
    Digest,
    FileEntry,
    Job,
    JobEvent,
    JobId,
    JobRequest,
    JobState,
    Moment,
    Parent,
    Record,
    Shard,
)

if TYPE_CHECKING:
    from auditsvc.datasets import Dataset


_ABOUT: ContextVar[Mapping[str, str]] = ContextVar("auditsvc_about", default={})  # noqa: B039 - never changed in place


def known() -> Mapping[str, str]:
    """What is being worked on here and now."""
    return _ABOUT.get()


@contextmanager
def about(**facts: str) -> Iterator[None]:
    """Add these facts to every line until the end of the block."""
    token = _ABOUT.set({**_ABOUT.get(), **facts})
    try:
        yield
    finally:
        _ABOUT.reset(token)


Result = dict[str, Any]
"""What a step of a job gave, as plain JSON: digests and names, never the things themselves."""


class Runner(Protocol):
    """Runs one job's steps.  A step with a stored result is never run again, even after a crash."""

    def step(self, name: str, work: Callable[[], Result]) -> Result:
        """The result of this step: kept from before, or worked out now.

        A step that was killed is run again from its start, so ``work`` must bear being done twice.

        Raises:
            Cancelled: the job was stopped.
        """

    def spread(self, shards: Sequence[Shard]) -> tuple[Result, ...]:
        """Measure these shards wherever there is room, and return the results in the shards' order."""


class Jobs(Protocol):
    """Background jobs, as their submitters see them."""

    def submit(self, request: JobRequest, by: str, *, once: tuple[Moment, Digest] | None = None) -> Job:
        """Queue a job; once this has returned, the job survives a crash.  Raises ``Unavailable``.

        ``once``: a time and a digest that name the job; submitted again, it is the same job and nothing is queued.
        """

    def get(self, job: JobId) -> Job:
        """The job in its current state.  Raises ``NotFound``."""

    def page(
        self, *, kind: str = "", state: JobState | None = None, before: JobId | None = None, limit: int = 20
    ) -> tuple[Job, ...]:
        """At most ``limit`` jobs, newest first, older than ``before``."""

    def cancel(self, job: JobId) -> Job:
        """Cancel a job: at once if it is queued, else at its next progress event; finished steps are kept.

        Raises:
            NotFound: no job has this id.
            Conflict: it is done or failed.
        """

    def retry(self, job: JobId) -> Job:
        """Queue a failed or cancelled job again.

        Raises:
            NotFound: no job has this id.
            Conflict: it is queued, running or done.
        """

    def delete_ended(self, ended_before: Moment) -> int:
        """Delete jobs that ended before this time, with their events; returns how many.  Their results stay."""

    def events(self, job: JobId, after: int = 0) -> tuple[JobEvent, ...]:
        """The job's events after this number, oldest first.  Raises ``NotFound``."""


@dataclass(frozen=True)
class Placed:
    """What a registered model's names point at: the version of every alias, and of every stage."""

    aliases: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Registered:
    """A version as the registry describes it: the digest in its tag, and what changes when it is made anew."""

    digest: str | None
    made: str = ""


class Registry(Protocol):
    """The model registry: versions, lineage, tags, and the alias that says "this one"."""

    def register_parent(self, parent: Parent, folder: Path) -> str:
        """Register the parent; returns its version.  Registering the same digest again returns the same version."""

    def register_candidate(self, candidate: Candidate, folder: Path, parent_version: str) -> str:
        """Register a candidate with lineage to its parent; idempotent by digest; returns its version."""

    def registered(self, model: str, version: str) -> Registered:
        """What the registry says about a version.  Raises ``NotFound``."""

    def tag(self, model: str, version: str, tags: dict[str, str]) -> None:
        """Set tags on a version.  Tags are hints for readers, never evidence."""

    def checkout(self, model: str, version: str, folder: Path) -> Path:
        """Copy the files of a version into this folder; the folder inside it that holds them.  Raises ``NotFound``."""

    def move_alias(self, model: str, alias: str, version: str) -> None:
        """Point the alias at this version."""

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove the alias, if it is there."""

    def aliased(self, model: str, alias: str) -> str | None:
        """The version with this alias, or None: an unassigned alias is not an error."""

    def placed(self) -> dict[str, Placed]:
        """The aliases and stages of all models, from any source; models without any are omitted."""

    def set_stage(self, model: str, version: str, stage: str | None) -> None:
        """Put a version into a stage, or out of all of them.  Raises ``NotFound``."""


KeyRole = Literal["build", "audit", "release", "log"]
"""One key, one role: who pruned, who measured, who released, who keeps the log."""


class Signer(Protocol):
    """Signs bytes with one key of one role.  ECDSA P-256 with SHA-256, or Ed25519 for the log."""

    @property
    def role(self) -> KeyRole:
        """What this key may be used for."""

    @property
    def public_pem(self) -> bytes:
        """The public key, PEM SubjectPublicKeyInfo."""

    def sign(self, data: bytes) -> bytes:
        """The signature over these bytes (DER for ECDSA).  Raises ``Unavailable``."""


class Keys(Protocol):
    """The signers of this installation, one for each role; made on first use in the embedded default."""

    def signer(self, role: KeyRole) -> Signer:
        """The signer for this role."""

    def watermark_secret(self) -> bytes:
        """32 bytes; never in the ledger, never in a log."""


SigningRequest = Literal["release", "rejection", "checkpoint", "trust", "keys", "watermark-secret"]
"""What the signer process does; see ``services.signing_requests``."""


class SigningProcess(Protocol):
    """Another process, which holds the keys."""

    def ask(self, request: SigningRequest, subject: str = "") -> str:
        """Its answer; ``subject`` is the digest of a decision.

        Raises:
            AuditError: what the use case raised there.
            Unavailable: it can't be reached.
        """


class Timestamps(Protocol):
    """A time stamping authority (RFC 3161)."""

    @property
    def authority(self) -> str:
        """Its certificates in PEM, its own first and its root last."""

    def stamp(self, data: bytes) -> bytes:
        """A time stamp response over these bytes, in DER.  Raises ``Unavailable``."""


class Witnesses(Protocol):
    """Others who follow the log and cosign its checkpoints (C2SP tlog-witness)."""

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Their public keys as notes name them."""

    @property
    def quorum(self) -> int:
        """How many of them must cosign before anything is published."""

    def cosign(self, envelope: str) -> str:
        """The checkpoint with their lines under it.

        Raises:
            Unavailable: fewer than the quorum answered.
        """


R = TypeVar("R", bound=Record)


class Clock(Protocol):
    """The time."""

    def now(self) -> Moment:
        """UTC, to the second."""


class View(Protocol):
    """What can be read of the ledger."""

    def get(self, kind: type[R], digest: Digest) -> R:
        """The record of this kind with this digest.

        Raises:
            NotFound: there is none.
        """

    def find(self, kind: type[R], subject: str) -> tuple[R, ...]:
        """All records of this kind about this subject, oldest first; see ``Record.subjects``."""

    def page(
        self, kind: type[R], *, subject: str = "", before: int | None = None, limit: int = 20
    ) -> tuple[tuple[int, R], ...]:
        """At most ``limit`` records with their positions, newest first, older than ``before``, about ``subject``."""


class Ledger(View, Protocol):
    """Append-only store of records, with a Merkle log over it.  Nothing is ever changed or deleted."""

    def append(self, *records: Record, actor: str) -> None:
        """Add records, and one log event for each, all or none; a record that is there already is left alone.

        Raises:
            Conflict: a constraint of the ledger forbids it (who submitted can't approve).
            Unavailable: the store can't be written.
        """

    def snapshot(self) -> AbstractContextManager[View]:
        """The ledger as it is at the first look-up: for a few that belong together; what is added later is not seen."""

    def all(self, kind: type[R]) -> Iterator[R]:
        """All records of this kind, oldest first."""


class Log(Protocol):
    """The transparency log over the ledger."""

    def leaf_index(self, object_digest: Digest) -> int:
        """Where this object was logged first.  Raises ``NotFound``."""

    def leaf(self, index: int) -> bytes:
        """The bytes of one leaf.  Raises ``NotFound``."""

    def append_leaf(self, data: bytes) -> int:
        """Log these bytes (an attestation's entry) and return the index; the same bytes keep their index."""

    def size(self) -> int:
        """The number of leaves."""

    def root(self, size: int) -> bytes:
        """The root hash of the first ``size`` leaves."""

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """The audit path of one leaf in the tree of this size."""

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """The proof that the tree of size ``new`` continues the tree of size ``old``."""


class Observations(Protocol):
    """What is observed of releases in use, by release: each observation once, in the order of arrival."""

    def add(self, release: Digest, rows: Sequence[tuple[str, Moment, str, str]]) -> int:
        """Keep observations, as id, time, cluster and JSON; one with a known id is left out.  Returns how many are new.

        Raises:
            Unavailable: the store can't be written; then none is kept.
        """
        ...

    def known(self, release: Digest, ids: Sequence[str]) -> frozenset[str]:
        """Those of these ids that are kept."""
        ...

    def add_labels(self, release: Digest, labels: Mapping[str, str]) -> int:
        """Keep the labels of observations by id; of one that is unknown or has a label nothing.  Returns how many."""
        ...

    def after(self, release: Digest, position: int, limit: int) -> tuple[tuple[int, str, bool], ...]:
        """At most ``limit`` observations after a position: position, JSON, and whether it is the first of a cluster."""
        ...

    def labels_after(self, release: Digest, position: int, limit: int) -> tuple[tuple[int, str, str], ...]:
        """At most ``limit`` labels after a position: position, label, and the observation's JSON."""
        ...

    def state(self, settings: Digest) -> tuple[int, int, bytes] | None:
        """Up to which observation and which label the tests under these settings have counted, and their state."""
        ...

    def keep_state(self, settings: Digest, position: int, labels: int, state: bytes) -> None:
        """Replace the state."""
        ...

    def delete_before(self, release: Digest, before: Moment) -> int:
        """Delete observations before this time, with their labels.  Returns how many."""
        ...


class Blobs(Protocol):
    """Content-addressed files.  A blob is there whole, or it is not there."""

    def put(self, data: bytes) -> Digest:
        """Store these bytes; returns their digest."""

    def put_file(self, path: Path) -> FileEntry:
        """Store a file, streaming; the entry's name is the file's own."""

    def read(self, digest: Digest) -> bytes:
        """The bytes, checked against the digest.  Raises ``NotFound``, ``Unavailable``."""

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""

    def size(self) -> int:
        """Bytes of all blobs.  Raises ``Unavailable``."""
        ...

    def remove_unused(self, used: Set[Digest], days: float) -> tuple[int, int]:
        """Remove blobs other than these that were not stored again for this many days; returns their number and bytes.

        Raises:
            InvalidInput: the storage can't do that safely.
            Unavailable: it can't be written.
        """
        ...

    def checkout(self, files: Sequence[FileEntry], folder: Path) -> None:
        """Write these files into an empty or absent folder, atomically: the folder appears whole."""


class Datasets(Protocol):
    """Data sets by content."""

    def open(self, path: Path) -> Dataset:
        """Read a data set folder, or one description in it, and check it.  Raises ``InvalidDataset``."""


class References(Protocol):
    """Models that lie elsewhere, by their address."""

    def fetch(self, address: str, folder: Path) -> None:
        """Copy the files of the model folder at this address into ``folder``.

        Raises:
            InvalidInput: it is no address.
            Forbidden: the operator did not allow this place.
            NotFound: there is nothing.
            Refused: the folder has other files than those of a model, or larger ones.
            Unavailable: it can't be read.
        """


class Progress(Protocol):
    """Reports progress: the step, the units done, the time left."""

    def step(self, title: str, total: int | None = None) -> AbstractContextManager[Tick]:
        """A step with a title and, where known, the number of ticks in it.

        Raises:
            Cancelled: at the next step or tick after the job was stopped.
        """

    def say(self, line: str) -> None:
        """One line that stays."""


class Tick(Protocol):
    """Called once for each finished unit of a step."""

    def __call__(self, units: int = 1) -> None:
        """Report ``units`` more as done."""


class NoProgress:
    """``Progress`` without any output."""

    @contextmanager
    def step(self, title: str, total: int | None = None) -> Iterator[Tick]:  # noqa: ARG002 - the protocol's signature
        """A step without output."""
        yield lambda _units=1: None

    def say(self, line: str) -> None:
        """No output."""


@dataclass(frozen=True)
class Compute:
    """The hardware that models run on while they are measured."""

    device: str = "cpu"
    """``cpu``, ``cuda`` or ``cuda:N``, as torch names devices."""


class LoggedLedger(Ledger, Log, Protocol):
    """A ledger together with its transparency log, as the SQL adapter implements them in one class."""

    def bodies(self) -> Iterator[bytes]:
        """The canonical JSON of every record, of whatever kind."""
        ...

    def faults(self) -> tuple[str, ...]:
        """Records, indexes and tree nodes that do not follow from the log's entries, a sentence each; empty if none.

        Reads everything, so it takes seconds for some ten thousand records.
        """


@dataclass(frozen=True)
class Context:
    """The ports that the services use.  ``bootstrap.open_context`` constructs it; tests use fakes."""

    ledger: LoggedLedger
    log: Log
    blobs: Blobs
    registry: Registry
    datasets: Datasets
    keys: Keys
    clock: Clock
    progress: Progress
    folder: Path
    """The store's folder: releases and reports are written below it."""
    checkpoint: Path | None = None
    """The file with the log's last signed checkpoint; ``None`` means a file in ``folder``.  On another disk than the
    ledger it also detects a ledger that was restored from an old backup."""
    timestamps: Timestamps | None = None
    """The authority that timestamps signatures, if one is configured."""
    witnesses: Witnesses | None = None
    """The witnesses that cosign the log's checkpoints, if any are configured."""
    references: References | None = None
    """Object storage that models may be fetched from by their address, if any is allowed."""
    compute: Compute = Compute()
    operator_models: frozenset[str] = frozenset()
    """The models whose terms the operator's settings set, so that people can't."""
    public_url: str = ""
    """The service's address, if one is set: statements name policies under it."""
    watched: Observations | None = None
    """Observations of releases in use; ``None`` where nothing is watched."""
    signing: SigningProcess | None = None
    """The process that signs, if it is another one: ``keys`` has public halves only."""

    @property
    def device(self) -> str:
        """The device that models run on while they are measured; see ``Compute.device``."""
        return self.compute.device
