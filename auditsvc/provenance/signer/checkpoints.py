"""Checkpoints: the guard over the last published one of this log, and the witness that cosigns those of other logs.

A database restored from an old backup has a log that is shorter than the published one, and would soon present another
history.  So before anything is signed, the log must continue the checkpoint stored here.  Store it on another disk than
the database: a common backup of both hides the loss.

Without a witness, a log proves its history only to readers who kept an older checkpoint.  A witness checks that the log
only grows and stores only the last checkpoint of each log that it follows; run it under another account, at best in
another organisation.

Reference: C2SP (2024), "tlog-witness" and "tlog-cosignature" v1, https://c2sp.org/tlog-witness.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from auditsvc.errors import Conflict, Unavailable
from auditsvc.ports import Keys, Log, SigningProcess, Witnesses
from auditsvc.provenance.formats.dsse import ed25519_raw
from auditsvc.provenance.formats.merkle_log import continues
from auditsvc.provenance.formats.release_layout import read_or_none, write_whole
from auditsvc.provenance.formats.signed_note import (
    COSIGNATURE,
    Checkpoint,
    NoteKey,
    NoteSigner,
    cosigned_bytes,
    open_checkpoint,
    sign_checkpoint,
    signature_line,
)
from auditsvc.provenance.formats.strict_json import Fault, base64_of, unbase64
from auditsvc.provenance.trust.trust_root import log_origin
from auditsvc.records import Moment


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


_MAX_PROOF = 63


def check_growth(seen: Checkpoint, now: Checkpoint, proof: Sequence[bytes]) -> None:
    """The log that was seen has only grown.

    Raises:
        Fault: ``LOG_ROLLBACK`` where it shrank or gives no proof, ``LOG_FORK`` where one size has two roots.
    """
    if now.origin != seen.origin:
        raise Fault("LOG_CHECKPOINT", f"the checkpoint is of {now.origin[:80]}, not of {seen.origin}")
    if now.size < seen.size:
        raise Fault("LOG_ROLLBACK", f"the log has {now.size} entries; {seen.size} were seen before")
    if now.size == seen.size and now.root != seen.root:
        raise Fault("LOG_FORK", f"the log shows two histories of {now.size} entries")
    if not continues(seen.size, now.size, seen.root, now.root, proof):
        raise Fault("LOG_ROLLBACK", f"no proof that {now.size} entries continue the {seen.size} seen before")


def witness_request(old: int, proof: Sequence[bytes], envelope: str) -> bytes:
    """The body of an ``add-checkpoint`` request: the size that the witness saw last, the proof, the new checkpoint."""
    lines = "".join(f"{base64_of(node)}\n" for node in proof)
    return f"old {old}\n{lines}\n{envelope}".encode()


@dataclass(frozen=True)
class Witness:
    """One witness: its name, its key, the logs it follows by origin, and its state file."""

    name: str
    signer: NoteSigner
    logs: Mapping[str, NoteKey]
    state: Path

    @property
    def key(self) -> NoteKey:
        """The key under which its cosignatures are checked."""
        return NoteKey(self.name, COSIGNATURE, ed25519_raw(self.signer.public_pem))

    def seen(self, origin: str) -> Checkpoint:
        """The last checkpoint of a log; an empty tree for one that was never seen.

        Raises:
            Unavailable: the state can't be read.
        """
        stored = read_or_none(self.state)
        known = json.loads(stored).get(origin) if stored else None
        return Checkpoint.parse(known) if known else Checkpoint(origin, 0, b"")

    def add_checkpoint(self, request: bytes, at: Moment) -> str:
        """Answer an ``add-checkpoint`` request with one cosignature line; remembers the checkpoint first.

        Raises:
            Fault: ``LOG_CHECKPOINT`` (malformed, unknown log or not signed by it), ``LOG_ROLLBACK`` (also where
                ``old`` is not what this witness saw last), ``LOG_FORK``.
            Unavailable: the state can't be written; nothing was signed.
        """
        old, proof, envelope = read_request(request)
        origin = envelope.partition("\n")[0]
        if origin not in self.logs:
            raise Fault("LOG_CHECKPOINT", f"this witness does not follow {origin[:80]}")
        now = open_checkpoint(envelope, self.logs[origin])
        seen = self.seen(origin)
        if old != seen.size:
            raise Fault("LOG_ROLLBACK", f"this witness saw {seen.size} entries last, not {old}")
        check_growth(seen, now, proof)
        stored = read_or_none(self.state)
        known = json.loads(stored) if stored else {}
        write_whole(self.state, json.dumps(known | {origin: now.text()}, sort_keys=True).encode())
        time = int(at.timestamp())
        signature = self.signer.sign(cosigned_bytes(now.text(), time))
        return signature_line(self.key, time.to_bytes(8, "big") + signature)

    def answer(self, request: bytes, at: Moment) -> tuple[int, str]:
        """The HTTP status and the body with which the protocol answers a request.

        409 carries the size that was seen last, so that the log can ask again from there.

        Raises:
            Unavailable: the state can't be read or written; nothing was signed.
        """
        try:
            old, _, envelope = read_request(request)
        except Fault as fault:
            return 400, f"{fault.detail}\n"
        origin = envelope.partition("\n")[0]
        if origin not in self.logs:
            return 404, "this witness does not follow that log\n"
        try:
            open_checkpoint(envelope, self.logs[origin])
        except Fault as fault:
            return 403, f"{fault.detail}\n"
        seen = self.seen(origin)
        if old != seen.size:
            return 409, f"{seen.size}\n"
        try:
            return 200, self.add_checkpoint(request, at)
        except Fault as fault:
            return (409, f"{seen.size}\n") if fault.step_code == "LOG_FORK" else (422, f"{fault}\n")


def read_request(request: bytes) -> tuple[int, list[bytes], str]:
    """The parts of an ``add-checkpoint`` request: the size that was seen last, the proof, the checkpoint.

    Raises:
        Fault: ``LOG_CHECKPOINT`` for anything else.
    """
    try:
        head, _, envelope = request.decode("utf-8").partition("\n\n")
        first, *lines = head.split("\n")
        word, _, size = first.partition(" ")
        if word != "old" or not size.isascii() or not size.isdigit() or len(lines) > _MAX_PROOF:
            raise Fault("LOG_CHECKPOINT", "not an add-checkpoint request")
        return int(size[:19]), [unbase64(line, "the proof") for line in lines], envelope
    except (UnicodeDecodeError, Fault) as error:
        raise Fault("LOG_CHECKPOINT", f"not an add-checkpoint request: {error}") from error
