"""Witnesses: independent parties who check that the log only grows, and cosign its checkpoints.

Without a witness, a log proves its history only to readers who kept an older checkpoint.  A witness stores only the
last checkpoint of each log that it follows; run it under another account, at best in another organisation.

Reference: C2SP (2024), "tlog-witness" and "tlog-cosignature" v1, https://c2sp.org/tlog-witness.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from auditsvc.provenance.formats.merkle_log import continues
from auditsvc.provenance.formats.release_layout import read_or_none, write_whole
from auditsvc.provenance.formats.signatures import ed25519_raw
from auditsvc.provenance.formats.signed_note import (
    COSIGNATURE,
    Checkpoint,
    NoteKey,
    NoteSigner,
    cosigned_bytes,
    open_checkpoint,
    signature_line,
)
from auditsvc.provenance.formats.strict_json import Fault, base64_of, unbase64
from auditsvc.records import Moment

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
