"""Signing in a cloud's key management service, through securesystemslib: ``awskms:``, ``gcpkms:``, ``azurekms:``.

::

    awskms:KEY-ID                 gcpkms:projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/1
    azurekms://VAULT/KEY

The cloud's own library finds the credentials, as it does for its other tools.  ECDSA P-256 only.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import import_module
from typing import Any

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
