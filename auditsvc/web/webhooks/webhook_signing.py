"""Webhook signatures: HMAC-SHA256 over ``id.timestamp.body`` with a shared secret.

Recipients verify them with any library for Standard Webhooks.  MLflow signs its webhooks in the same way, under
headers of its own.

Reference: Standard Webhooks (2023), https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from auditsvc.errors import Unauthenticated

PREFIX = "whsec_"
"""The prefix of a secret, as the libraries for Standard Webhooks expect it."""

TOLERANCE_S = 300
"""Maximum age of a signed message in seconds; an older one may be replayed."""


def new_secret() -> str:
    """A new random secret of 256 bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """The value of the signature header for one message."""
    signed = hmac.new(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def key_of(secret: str) -> bytes:
    """The HMAC key that a secret encodes."""
    return base64.b64decode(secret.removeprefix(PREFIX))


def verify(key: bytes, message: str, timestamp: str, body: bytes, signatures: str, now: float) -> None:
    """Check the signature header of a message; it may hold several signatures, separated by spaces.

    Raises:
        Unauthenticated: no signature is valid for this key and message, or the message is too old.
    """
    if not timestamp.isdecimal() or len(timestamp) > 12 or abs(now - int(timestamp)) > TOLERANCE_S:
        raise Unauthenticated(
            f"the message's timestamp is missing or more than {TOLERANCE_S} s off; check the clocks of both servers"
        )
    expected = sign(key, message, int(timestamp), body).encode()
    if not any(hmac.compare_digest(expected, one.encode()) for one in signatures.split(" ")):
        raise Unauthenticated("the message's signature is invalid; check that both sides use the same secret")
