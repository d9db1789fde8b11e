"""Keys that live as long as the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from auditsvc.ports import KeyRole


@dataclass(frozen=True)
class MemorySigner:
    """``ports.Signer``: ECDSA P-256, or Ed25519 for the log."""

    role: KeyRole
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(data)
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


class MemoryKeys:
    """``ports.Keys``; ``number`` tells one installation from another, and the same number has the same keys."""

    def __init__(self, number: int = 1) -> None:
        self._number = number

    def signer(self, role: KeyRole) -> MemorySigner:
        place = self._number * len(get_args(KeyRole)) + get_args(KeyRole).index(role) + 1
        if role == "log":
            return MemorySigner(role, ed25519.Ed25519PrivateKey.from_private_bytes(place.to_bytes(32, "big")))
        return MemorySigner(role, ec.derive_private_key(place, ec.SECP256R1()))

    def watermark_secret(self) -> bytes:
        return self._number.to_bytes(32, "big")
