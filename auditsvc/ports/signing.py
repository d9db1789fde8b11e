"""Keys, time stamps and witnesses, as protocols: who stands behind what is signed."""

from __future__ import annotations

from typing import Literal, Protocol

KeyRole = Literal["build", "audit", "release", "log"]
"""One key, one role: who pruned, who measured, who released, who keeps the log."""


class Signer(Protocol):
    """Signs bytes with one key of one role.  ECDSA P-256 with SHA-256, or Ed25519 for the log."""

    @property
    def role(self) -> KeyRole:
        """What this key may be used for."""
        ...

    @property
    def public_pem(self) -> bytes:
        """The public key, PEM SubjectPublicKeyInfo."""
        ...

    def sign(self, data: bytes) -> bytes:
        """The signature over these bytes (DER for ECDSA).  Raises ``Unavailable``."""
        ...


class Keys(Protocol):
    """The signers of this installation, one for each role; made on first use in the embedded default."""

    def signer(self, role: KeyRole) -> Signer:
        """The signer for this role."""
        ...

    def watermark_secret(self) -> bytes:
        """32 bytes; never in the ledger, never in a log."""
        ...


class Timestamps(Protocol):
    """A time stamping authority (RFC 3161)."""

    @property
    def authority(self) -> str:
        """Its certificates in PEM, its own first and its root last."""
        ...

    def stamp(self, data: bytes) -> bytes:
        """A time stamp response over these bytes, in DER.  Raises ``Unavailable``."""
        ...


class Witnesses(Protocol):
    """Others who follow the log and cosign its checkpoints (C2SP tlog-witness)."""

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Their public keys as notes name them."""
        ...

    @property
    def quorum(self) -> int:
        """How many of them must cosign before anything is published."""
        ...

    def cosign(self, envelope: str) -> str:
        """The checkpoint with their lines under it.

        Raises:
            Unavailable: fewer than the quorum answered.
        """
        ...
