"""Signing in a hardware security module, through PKCS #11: the private key never leaves it.

A key is named by a ``pkcs11:`` URI with the module that speaks to the device and where its PIN is read from::

    pkcs11:token=auditsvc;object=release?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/secrets/pin

The PIN is read when the first signature is made, and is in no setting.  ECDSA P-256 only: the log's Ed25519 key, which
few devices know, stays in a file.

Reference: J. Pechanec, D. Moffat (2015), "The PKCS #11 URI Scheme", RFC 7512; OASIS (2020), "PKCS #11" v3.0.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_to_bytes

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.ports import KeyRole

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
