"""Keys in files: made on first use, for an installation on one machine.

Suitable for evaluation and single-user installations.  Anyone who can read the folder can sign as every role,
so a service that others rely on should keep at least the release key in an HSM or KMS.  A passphrase
encrypts the private keys at rest.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.ports import KeyRole, Signer
from auditsvc.provenance import TrustRoot
from auditsvc.provenance.trust.trust_root import trusted_root

_ROLES: tuple[KeyRole, ...] = get_args(KeyRole)
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

_README = """These keys were made on first use, for this local installation only.

build.key, audit.key, release.key   sign what was made, measured and released (ECDSA P-256)
log.key                             signs the checkpoints of the transparency log (Ed25519)
watermark.secret                    32 bytes from which the marks in models are derived
*.pub                               the public halves; release.pub is what others need to verify
trust-policy.json                   all public keys with their roles: whom to trust, and for what
trusted_root.json                   the log, for clients of Sigstore

Anyone who can read this folder can sign as every role, so these keys prove nothing to third parties.
Distribute release.pub or trust-policy.json through a channel that is independent of the releases.
Back up this folder: without watermark.secret no watermark can be detected.
"""


@dataclass(frozen=True)
class FileSigner:
    """Signs with a private key that is held in memory."""

    role: KeyRole
    key: PrivateKey = field(repr=False)

    @property
    def public_pem(self) -> bytes:
        """The public key, PEM SubjectPublicKeyInfo."""
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-256 in DER, or for the log Ed25519."""
        if isinstance(self.key, ed25519.Ed25519PrivateKey):
            return self.key.sign(data)
        return self.key.sign(data, ec.ECDSA(hashes.SHA256()))


class FileKeys:
    """One key for each role, in PEM files (PKCS #8) in one folder that only its owner can read."""

    def __init__(
        self, folder: Path, passphrase: bytes | None = None, elsewhere: Mapping[KeyRole, Signer] | None = None
    ) -> None:
        """``elsewhere`` are signers that are kept outside this folder: no key is made for their roles."""
        self.folder = folder
        self._passphrase = passphrase
        self._elsewhere = dict(elsewhere or {})
        self._signers: dict[KeyRole, Signer] = dict(self._elsewhere)
        self._made = False

    def signer(self, role: KeyRole) -> Signer:
        """The signer for this role; all keys are made when the first is asked for.

        Raises:
            Unavailable: the folder can't be read or written, or the passphrase is missing or wrong.
            InvalidInput: a key file holds no key of the kind that its role needs.
        """
        self._make_missing()
        if role not in self._signers:
            self._signers[role] = read_signer(self.folder / f"{role}.key", role, self._passphrase)
        return self._signers[role]

    def successor(self, role: KeyRole) -> Signer:
        """The key that will follow this role's, made when it is first asked for; it signs nothing yet.

        Raises:
            Unavailable: the folder can't be read or written.
        """
        self._make_missing()
        try:
            self._create(f"{role}.next.key", self._pem(_new_key(role)), 0o600)
        except OSError as error:
            raise Unavailable(f"cannot write keys into {self.folder}: {error.strerror}") from error
        return read_signer(self.folder / f"{role}.next.key", role, self._passphrase)

    def succeed(self, role: KeyRole, successor: Signer) -> Path:
        """Put the successor in the role's place; the old key is kept under another name, which is returned.

        A successor that is kept elsewhere has to be named in the settings from now on.

        Raises:
            Unavailable: the folder can't be written.
        """
        number = 1 + len([*self.folder.glob(f"{role}.retired-*.pub")])
        old = self.folder / f"{role}.retired-{number}.key"
        waiting = self.folder / f"{role}.next.key"
        try:
            for kind in ("pub", "key"):
                with suppress(FileNotFoundError):
                    (self.folder / f"{role}.{kind}").rename(old.with_suffix(f".{kind}"))
            if waiting.exists():
                waiting.rename(self.folder / f"{role}.key")
            self._create(f"{role}.pub", successor.public_pem, 0o644)
        except OSError as error:
            raise Unavailable(f"cannot move keys in {self.folder}: {error.strerror}") from error
        self._signers[role] = successor
        return old

    def watermark_secret(self) -> bytes:
        """32 random bytes, stored next to the keys.

        Raises:
            Unavailable: the file can't be read or written.
            InvalidInput: the file has another length.
        """
        self._make_missing()
        secret = self._read("watermark.secret")
        if len(secret) != 32:
            raise InvalidInput(f"{self.folder / 'watermark.secret'} must hold 32 bytes, not {len(secret)}; restore it")
        return secret

    def _make_missing(self) -> None:
        """Make what is not there; two processes that start at once end up with the same keys."""
        if self._made or all((self.folder / name).exists() for name in self._secrets()):
            self._made = True
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder.chmod(0o700)
            for role in _ROLES:
                if role not in self._elsewhere and not (self.folder / f"{role}.key").exists():
                    self._create(f"{role}.key", self._pem(_new_key(role)), 0o600)
            self._create("watermark.secret", secrets.token_bytes(32), 0o600)
            self._made = True
            self._publish()
        except OSError as error:
            raise Unavailable(f"cannot write keys into {self.folder}: {error.strerror}") from error

    def _secrets(self) -> tuple[str, ...]:
        return (*(f"{role}.key" for role in _ROLES if role not in self._elsewhere), "watermark.secret")

    def _publish(self) -> None:
        """Write the public keys next to the private keys."""
        for role in _ROLES:
            self._create(f"{role}.pub", self.signer(role).public_pem, 0o644)
        trust = TrustRoot.of_keys(self)
        self._create("README.txt", _README.encode(), 0o644)
        self._create("trust-policy.json", trust.to_json(), 0o644)
        self._create("trusted_root.json", trusted_root(trust), 0o644)

    def _create(self, name: str, data: bytes, mode: int) -> None:
        """Write a file whole, unless it is there: the first writer wins."""
        final = self.folder / name
        if final.exists():
            return
        partial = self.folder / f".{name}.{secrets.token_hex(8)}.partial"
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(partial, final)
        finally:
            partial.unlink(missing_ok=True)

    def _pem(self, key: PrivateKey) -> bytes:
        lock = BestAvailableEncryption(self._passphrase) if self._passphrase else NoEncryption()
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)

    def _read(self, name: str) -> bytes:
        return _read(self.folder / name)


def read_signer(path: Path, role: KeyRole, passphrase: bytes | None = None) -> FileSigner:
    """The signer whose private key is in this file (PEM, PKCS #8).

    Raises:
        Unavailable: the file can't be read, or the passphrase is missing or wrong.
        InvalidInput: it holds no key of the kind that the role needs.
    """
    data = _read(path)
    secret = passphrase if b"ENCRYPTED" in data else None
    try:
        key = load_pem_private_key(data, secret)
    except TypeError as error:
        raise Unavailable(f"{path} is encrypted; give the passphrase of the keys") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        reason = "the passphrase is wrong or the file is damaged" if secret else "it holds no private key"
        raise (Unavailable if secret else InvalidInput)(f"cannot use {path}: {reason}") from error
    if isinstance(key, ed25519.Ed25519PrivateKey) and role == "log":
        return FileSigner(role, key)
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1) and role != "log":
        return FileSigner(role, key)
    raise InvalidInput(f"{path} must hold {'an Ed25519' if role == 'log' else 'an ECDSA P-256'} key")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error


def _new_key(role: KeyRole) -> PrivateKey:
    return ed25519.Ed25519PrivateKey.generate() if role == "log" else ec.generate_private_key(ec.SECP256R1())
