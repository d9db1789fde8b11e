"""Sends a webhook over HTTP: no redirects, a short time, and nothing of the answer but its status.

A redirect is not followed, as it could lead to where only this machine may go.  Plain HTTP is taken on loopback only.
"""

from __future__ import annotations

import http.client
import ipaddress
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from auditsvc.errors import InvalidInput, Unavailable

TIMEOUT_S = 10.0


def checked_address(url: str) -> SplitResult:
    """The parts of an address that webhooks may be sent to.

    Raises:
        InvalidInput: not https (or http to this machine), or with a name and password in it.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise InvalidInput(f"not an address: {error}") from error
    host = parts.hostname or ""
    if parts.username or parts.password:
        raise InvalidInput("leave name and password out of the address; receivers check the signature")
    if not host or parts.scheme not in ("https", "http") or not url.isascii() or any(c.isspace() for c in url):
        raise InvalidInput("a receiver's address looks like https://example.org/auditsvc")
    if parts.scheme == "http" and not _is_here(host):
        raise InvalidInput("plain http goes to this machine only; take https")
    return parts


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    """The status of the answer.

    Raises:
        Unavailable: no response, or none before the timeout.
    """
    parts = checked_address(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    try:
        connection.request("POST", target, body, {**headers, "user-agent": "auditsvc"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{parts.scheme}://{parts.netloc} does not answer: {error}") from error
    finally:
        connection.close()
