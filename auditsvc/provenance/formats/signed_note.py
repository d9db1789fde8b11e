"""Signed notes and checkpoints: the size and root hash of a log, signed by the log and cosigned by witnesses.

The format is read by Go's ``x/mod/sumdb/note``, by Sigstore's clients and by public witnesses.

Reference: C2SP (2024), "signed-note" and "tlog-checkpoint", https://c2sp.org/signed-note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from auditsvc.provenance.formats.dsse import check_ed25519, ed25519_raw
from auditsvc.provenance.formats.strict_json import Fault, base64_of, unbase64

ED25519 = 1
COSIGNATURE = 4
_DASH = "\N{EM DASH} "
_MAX_NOTE = 64 * 1024


class NoteSigner(Protocol):
    """What signs a note: the signer of the ``log`` role."""

    @property
    def public_pem(self) -> bytes:
        """An Ed25519 public key."""

    def sign(self, data: bytes) -> bytes:
        """The 64 bytes of an Ed25519 signature."""


@dataclass(frozen=True)
class NoteKey:
    """A key that signs notes: its name, its kind (1 Ed25519, 4 witness) and its 32 bytes."""

    name: str
    kind: int
    raw: bytes

    @property
    def full_id(self) -> bytes:
        """SHA-256 of name, newline, kind and key; a log's id in a Sigstore bundle."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.raw).digest()

    @property
    def key_id(self) -> bytes:
        """The first four bytes of it, as signature lines carry them."""
        return self.full_id[:4]

    @property
    def vkey(self) -> str:
        """The key as text: ``name+id+base64``."""
        return f"{self.name}+{self.key_id.hex()}+{base64_of(bytes([self.kind]) + self.raw)}"

    @classmethod
    def of_pem(cls, name: str, pem: bytes) -> NoteKey:
        """The log key with this name.  Raises ``Fault`` (``KEY_TYPE``) for anything but Ed25519."""
        return cls(name, ED25519, ed25519_raw(pem))

    @classmethod
    def parse(cls, vkey: str) -> NoteKey:
        """Read a key from its text.

        Raises:
            Fault: ``KEY_TYPE`` where it is malformed, of an unknown kind, or its id is not its own.
        """
        name, _, rest = vkey.partition("+")
        claimed, _, encoded = rest.partition("+")
        if not _plain(name):
            raise Fault("KEY_TYPE", f"not a note key: {vkey[:80]!r}")
        data = unbase64(encoded, "the note key")
        if len(data) != 33 or data[0] not in (ED25519, COSIGNATURE):
            raise Fault("KEY_TYPE", f"the note key {name} is not Ed25519")
        key = cls(name, data[0], data[1:])
        if key.key_id.hex() != claimed:
            raise Fault("KEY_TYPE", f"the note key {name} does not have the id that it claims")
        return key


@dataclass(frozen=True)
class Checkpoint:
    """The size and the root of a log, under the log's name."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64_of(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Read the text of a note as a checkpoint without extension lines.

        Raises:
            Fault: ``LOG_CHECKPOINT``.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[0]:
            raise Fault("LOG_CHECKPOINT", "a checkpoint has three lines: origin, size, root")
        size = lines[1]
        if not size.isascii() or not size.isdigit() or str(int(size[:19])) != size:
            raise Fault("LOG_CHECKPOINT", "the size of the checkpoint is not a whole number")
        try:
            root = unbase64(lines[2], "the root")
        except Fault as fault:
            raise Fault("LOG_CHECKPOINT", fault.detail) from fault
        if len(root) != 32:
            raise Fault("LOG_CHECKPOINT", "the root of the checkpoint is not a SHA-256")
        return cls(lines[0], int(size), root)


@dataclass(frozen=True)
class Note:
    """A text with signature lines under it, each a (name, key id, signature)."""

    text: str
    lines: tuple[tuple[str, bytes, bytes], ...]

    def signed_by(self, key: NoteKey) -> bool:
        """Whether a signature line of exactly this key verifies."""
        return any(check_ed25519(key.raw, signature, self.text.encode()) for signature in self.signatures_of(key))

    def signatures_of(self, key: NoteKey) -> Iterator[bytes]:
        """The signatures that claim to be of this key."""
        return (signature for name, key_id, signature in self.lines if (name, key_id) == (key.name, key.key_id))

    @classmethod
    def parse(cls, text: str) -> Note:
        """Read a signed note.

        Raises:
            Fault: ``LOG_CHECKPOINT`` where it is malformed.
        """
        body, blank, tail = text.rpartition("\n\n")
        if (
            len(text) > _MAX_NOTE
            or not blank
            or not tail.endswith("\n")
            or any(ord(c) < 32 and c != "\n" for c in text)
        ):
            raise Fault("LOG_CHECKPOINT", "not a signed note")
        lines = tuple(_signature_line(line) for line in tail[:-1].split("\n"))
        return cls(body + "\n", lines)


def _signature_line(line: str) -> tuple[str, bytes, bytes]:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        data = unbase64(encoded, "a signature line")
    except Fault as fault:
        raise Fault("LOG_CHECKPOINT", fault.detail) from fault
    if not line.startswith(_DASH) or not _plain(name) or len(data) < 5:
        raise Fault("LOG_CHECKPOINT", "a signature line is malformed")
    return name, data[:4], data[4:]


def _plain(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() for c in name)


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> str:
    """The checkpoint as a note that is signed by the log's key."""
    key = NoteKey.of_pem(checkpoint.origin, signer.public_pem)
    signature = signer.sign(checkpoint.text().encode())
    return f"{checkpoint.text()}\n{signature_line(key, signature)}"


def signature_line(key: NoteKey, signature: bytes) -> str:
    """One line under a note."""
    return f"{_DASH}{key.name} {base64_of(key.key_id + signature)}\n"


def open_checkpoint(envelope: str, key: NoteKey) -> Checkpoint:
    """The checkpoint in a signed note, if the log's own key signed it under its own name.

    Raises:
        Fault: ``LOG_CHECKPOINT``.
    """
    note = Note.parse(envelope)
    checkpoint = Checkpoint.parse(note.text)
    if checkpoint.origin != key.name:
        raise Fault("LOG_CHECKPOINT", f"the checkpoint is of {checkpoint.origin[:80]}, not of {key.name}")
    if not note.signed_by(key):
        raise Fault("LOG_CHECKPOINT", f"the checkpoint is not signed by the key of {key.name}")
    return checkpoint


def cosigned_bytes(text: str, time: int) -> bytes:
    """The bytes that a witness signs: the checkpoint, and the time in seconds since 1970."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def count_witnesses(envelope: str, vkeys: Sequence[str]) -> int:
    """How many of these witnesses cosigned the checkpoint.

    Raises:
        Fault: ``LOG_CHECKPOINT`` for a malformed note, ``KEY_TYPE`` for a malformed key.
    """
    note = Note.parse(envelope)
    keys = {NoteKey.parse(vkey) for vkey in vkeys}
    return sum(any(_cosigned(note, key, data) for data in note.signatures_of(key)) for key in keys)


def _cosigned(note: Note, witness: NoteKey, data: bytes) -> bool:
    if witness.kind != COSIGNATURE or len(data) != 72:
        return False
    return check_ed25519(witness.raw, data[8:], cosigned_bytes(note.text, int.from_bytes(data[:8], "big")))
