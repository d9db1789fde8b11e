"""Signatures of webhooks, made and checked.

The signature is HMAC-SHA256 over ``id.timestamp.body``, with a secret that both sides know.  MLflow signs what it
sends in the same way, under headers of its own.

Reference: Standard Webhooks (2023), https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets

from auditsvc.errors import Unauthenticated

PREFIX = "whsec_"
"""How a secret begins, in the form in which libraries take it."""

TOLERANCE_S = 300
"""How old a signed message may be, in seconds; an older one may be a copy that somebody kept."""


def new_secret() -> str:
    """A fresh secret of 256 bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def signature(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """The signature over one message, as it stands in its header."""
    signed = hmac.new(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def key_of(secret: str) -> bytes:
    """The key inside a secret of ours."""
    return base64.b64decode(secret.removeprefix(PREFIX))


def check(key: bytes, message: str, timestamp: str, body: bytes, given: str, now: float) -> None:
    """Let a message pass that was signed with this key a moment ago.

    Raises:
        Unauthenticated: not signed with it, changed since, or too old.
    """
    if not timestamp.isdecimal() or len(timestamp) > 12 or abs(now - int(timestamp)) > TOLERANCE_S:
        raise Unauthenticated("the message's time is missing or too far from ours; set both clocks")
    wanted = signature(key, message, int(timestamp), body).encode()
    if not any(hmac.compare_digest(wanted, one.encode()) for one in given.split(" ")):
        raise Unauthenticated("the message's signature does not fit; both sides need the same secret")
