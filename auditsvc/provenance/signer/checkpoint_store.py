"""The last published checkpoint of the log, stored outside the database, and the guard that compares them.

A database restored from an old backup has a log that is shorter than the published one, and would soon present another
history.  So before anything is signed, the log must continue the checkpoint stored here.  Store it on another disk than
the database: a common backup of both hides the loss.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from auditsvc.errors import Conflict, Unavailable
from auditsvc.ports import Keys, Log, SigningProcess, Witnesses
from auditsvc.provenance.formats.release_layout import read_or_none, write_whole
from auditsvc.provenance.formats.signed_note import Checkpoint, NoteKey, open_checkpoint, sign_checkpoint
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.trust.trust_root import log_origin


@dataclass(frozen=True)
class CheckpointStore:
    """The checkpoint file of one log."""

    path: Path
    keys: Keys
    log: Log
    witnesses: Witnesses | None = None
    signing: SigningProcess | None = None
    """The process that has the log's key, if it is another one."""

    def guard(self) -> None:
        """The log still contains what was published last.

        Raises:
            Conflict: ``LOG_FORK_GUARD``: it is shorter, has another history, or another key.
            Unavailable: the file can't be read.
        """
        self._guarded()

    def current(self) -> str:
        """The signed and witnessed checkpoint of the current log; made once for each size.

        Raises:
            Conflict: as ``guard``.
            Unavailable: the file or the keys can't be read or written, or too few witnesses answer.
        """
        if self.signing:
            return self.signing.ask("checkpoint")
        with self._alone():
            stored, published = self._guarded()
            size = self.log.size()
            if stored and published and published.size == size:
                return stored
            made = Checkpoint(log_origin(self.keys), size, self.log.root(size))
            note = sign_checkpoint(made, self.keys.signer("log"))
            if self.witnesses:
                note = self.witnesses.cosign(note)
            write_whole(self.path, note.encode())
            return note

    def record(self, envelope: str) -> str:
        """Store a checkpoint before it is published, if it is newer; returns it.

        Raises:
            Conflict: as ``guard``.
            Unavailable: the file can't be written.
        """
        with self._alone():
            _, published = self._guarded()
            if published is None or published.size < self._opened(envelope).size:
                write_whole(self.path, envelope.encode())
        return envelope

    def _guarded(self) -> tuple[str | None, Checkpoint | None]:
        data = read_or_none(self.path)
        stored = data.decode(errors="replace") if data is not None else None
        published = self._opened(stored) if stored is not None else None
        check_restored(published, self.log)
        return stored, published

    def _opened(self, note: str) -> Checkpoint:
        key = NoteKey.of_pem(log_origin(self.keys), self.keys.signer("log").public_pem)
        try:
            return open_checkpoint(note, key)
        except Fault as fault:
            message = f"LOG_FORK_GUARD: {self.path} is no checkpoint of this log's key: {fault.detail}; restore both"
            raise Conflict(message) from fault

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time."""
        lock = self.path.with_name(f".{self.path.name}.lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            with lock.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise Unavailable(f"cannot write {lock}: {error.strerror}") from error


def check_restored(published: Checkpoint | None, log: Log) -> None:
    """The restore guard: the log still contains what it published last.

    To be asked at start, before anything is signed; a database that came back from a backup fails it.

    Raises:
        Conflict: the log is shorter, or has another history.
    """
    if published is None:
        return
    size = log.size()
    if size < published.size:
        raise Conflict(
            f"LOG_FORK_GUARD: the log has {size} entries but has published {published.size}; it was restored from "
            "an old backup. Restore a newer one; nothing is signed until then"
        )
    if log.root(published.size) != published.root:
        raise Conflict(
            "LOG_FORK_GUARD: the log has another history than it has published; nothing is signed until the "
            "database that published it is restored"
        )
