"""Signing keys that are not in files: in a cloud's key management service, or in a PKCS #11 token.

A setting names the key by a URI::

    awskms:KEY-ID                 gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1
    azurekms://VAULT/KEY
    pkcs11:token=auditsvc;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin

Cloud keys are used through securesystemslib; the cloud's own library finds the credentials.  The PIN of a PKCS #11
token is read from its file at the first signature.  ECDSA P-256 only: the log's Ed25519 key, which few devices
support, stays in a file.

References: J. Pechanec, D. Moffat (2015), "The PKCS #11 URI Scheme", RFC 7512; OASIS (2020), "PKCS #11" v3.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.ports import KeyRole

SCHEMES = ("awskms:", "gcpkms:", "azurekms:")
_P256 = "ecdsa-sha2-nistp256"
_FOREIGN = {
    "botocore.exceptions": ("BotoCoreError", "ClientError"),
    "google.api_core.exceptions": ("GoogleAPIError",),
    "google.auth.exceptions": ("GoogleAuthError",),
    "azure.core.exceptions": ("AzureError",),
}


@dataclass
class KmsSigner:
    """``ports.Signer`` for one key in a cloud."""

    role: KeyRole
    uri: str

    @cached_property
    def public_pem(self) -> bytes:
        """The public key, asked of the cloud once.

        Raises:
            Unavailable: the cloud can't be reached or refuses, or its library is not installed.
            InvalidInput: the key is not ECDSA P-256.
        """
        pem: str = self._signer.public_key.keyval["public"]
        return pem.encode()

    def sign(self, data: bytes) -> bytes:
        """The signature in DER; only the digest is sent.  Raises ``Unavailable``."""
        return bytes.fromhex(self._guarded(lambda: self._signer.sign(data).signature))

    @cached_property
    def _signer(self) -> Any:
        try:
            from securesystemslib.signer import Signer
        except ImportError as error:
            raise Unavailable("keys in a cloud need securesystemslib: pip install 'auditsvc[kms]'") from error
        uri, key = self._guarded(self._imported)
        if key.scheme != _P256:
            raise InvalidInput(f"{self.uri} holds a key for {key.scheme}; it must be ECDSA P-256")
        return self._guarded(lambda: Signer.from_priv_key_uri(uri, key))

    def _imported(self) -> Any:
        from securesystemslib.signer import AWSSigner, AzureSigner, GCPSigner

        scheme, _, name = self.uri.partition(":")
        if scheme == "awskms":
            return AWSSigner.import_(name)
        if scheme == "gcpkms":
            return GCPSigner.import_(name)
        vault, _, key = name.removeprefix("//").partition("/")
        return AzureSigner.import_(vault, key)

    def _guarded(self, question: Callable[[], Any]) -> Any:
        """Ask the cloud, and translate what its library raises."""
        try:
            return question()
        except _errors() as error:
            reason = str(error).strip() or type(error).__name__
            raise Unavailable(f"{self.uri.partition(':')[0]} can't be used: {reason}") from error


@cache
def _errors() -> tuple[type[Exception], ...]:
    """The errors of securesystemslib and of the clouds' libraries that are installed; they share no root."""
    from securesystemslib.exceptions import Error

    found: list[type[Exception]] = [Error, OSError, ValueError]
    for module, names in _FOREIGN.items():
        with suppress(ImportError):
            found += (getattr(import_module(module), name) for name in names)
    return tuple(found)


SCHEME = "pkcs11:"


@dataclass(frozen=True)
class Place:
    """Where a key is: the module, the token, the key's label and id, and the file with the PIN."""

    module: str
    token: str
    label: str | None
    id: bytes | None
    pin_file: Path

    @classmethod
    def parse(cls, uri: str) -> Place:
        """Read a ``pkcs11:`` URI.

        Raises:
            InvalidInput: it lacks something, or has what is not known here; a PIN in it is refused.
        """
        path, _, query = uri.removeprefix(SCHEME).partition("?")
        named = dict(part.partition("=")[::2] for part in path.split(";") if part)
        asked = dict(parse_qsl(query, keep_blank_values=True))
        reasons = [f"{key} is not known" for key in named if key not in ("token", "object", "id", "type")]
        reasons += [f"{key} is not known" for key in asked if key not in ("module-path", "pin-source", "pin-value")]
        reasons += ["pin-value exposes the PIN in the settings; use pin-source"] * ("pin-value" in asked)
        reasons += ["token is missing"] * ("token" not in named)
        reasons += ["object or id is missing"] * ("object" not in named and "id" not in named)
        reasons += [f"{key} is missing" for key in ("module-path", "pin-source") if key not in asked]
        if reasons or not uri.startswith(SCHEME):
            raise InvalidInput(f"not the place of a key: {uri.partition('?')[0]}", reasons)
        return cls(
            module=asked["module-path"],
            token=unquote(named["token"]),
            label=unquote(named["object"]) if "object" in named else None,
            id=unquote_to_bytes(named["id"]) if "id" in named else None,
            pin_file=Path(asked["pin-source"].removeprefix("file:")),
        )


@dataclass
class Pkcs11Signer:
    """``ports.Signer`` for one key in a token; one session, opened when it is first needed."""

    role: KeyRole
    place: Place
    _lock: Lock = field(default_factory=Lock, repr=False)
    _session: Any = field(default=None, repr=False)
    _public: bytes | None = field(default=None, repr=False)

    @property
    def public_pem(self) -> bytes:
        """The public key, as the token has it.

        Raises:
            Unavailable: the device can't be reached, or has no such key.
            InvalidInput: the key is not on the curve P-256.
        """
        if self._public is None:
            self._public = self._asked(self._read_public)
        return self._public

    def sign(self, data: bytes) -> bytes:
        """ECDSA with SHA-256 in DER; only the digest goes to the device.  Raises ``Unavailable``."""
        digest = hashlib.sha256(data).digest()
        raw: bytes = self._asked(lambda session, pkcs11: self._sign(session, pkcs11, digest))
        half = len(raw) // 2
        return encode_dss_signature(int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big"))

    def _sign(self, session: Any, pkcs11: Any, digest: bytes) -> bytes:
        key = session.get_key(pkcs11.ObjectClass.PRIVATE_KEY, label=self.place.label, id=self.place.id)
        return bytes(key.sign(digest, mechanism=pkcs11.Mechanism.ECDSA))

    def _read_public(self, session: Any, pkcs11: Any) -> bytes:
        from pkcs11.util.ec import encode_ec_public_key

        found = session.get_key(pkcs11.ObjectClass.PUBLIC_KEY, label=self.place.label, id=self.place.id)
        key = load_der_public_key(encode_ec_public_key(found))
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise InvalidInput(f"the key {self.place.label or self.place.id!r} must be ECDSA P-256")
        return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def _asked(self, question: Any) -> Any:
        """Ask the device; a session that broke is opened anew once."""
        try:
            import pkcs11
        except ImportError as error:
            raise Unavailable("keys in a device need python-pkcs11: pip install 'auditsvc[pkcs11]'") from error
        with self._lock:
            for last in (False, True):
                try:
                    self._session = self._session or self._opened(pkcs11)
                    return question(self._session, pkcs11)
                except (pkcs11.PKCS11Error, RuntimeError) as error:
                    self._session = None
                    if last:
                        reason = str(error) or type(error).__name__
                        raise Unavailable(f"the token {self.place.token!r} can't be used: {reason}") from error
        raise Unavailable(f"the token {self.place.token!r} can't be used")

    def _opened(self, pkcs11: Any) -> Any:
        try:
            pin = self.place.pin_file.read_text().strip()
        except OSError as error:
            raise Unavailable(f"cannot read the PIN from {self.place.pin_file}: {error.strerror}") from error
        token = pkcs11.lib(self.place.module).get_token(token_label=self.place.token)
        try:
            return token.open(user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:  # another key of this token is in use: a login is the process's
            return token.open()
