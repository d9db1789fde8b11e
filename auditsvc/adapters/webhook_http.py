"""Sends a webhook over HTTP: no redirects, a short time, and nothing of the answer but its status.

A receiver is public: its name is resolved once, each of its addresses has to be globally reachable, and the connection
goes to the address that was checked, so that a name can't point elsewhere a moment later (DNS rebinding).  Other hosts
are those that the operator names; plain HTTP goes to these alone.  A redirect is not followed, as it could lead to
where only this machine may go.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from auditsvc.errors import InvalidInput, Unavailable

TIMEOUT_S = 10.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class WebhookSender:
    """Sends to public addresses, and to the hosts that are ``allowed``."""

    allowed: frozenset[str] = frozenset()

    def check(self, url: str) -> SplitResult:
        """The parts of an address that webhooks may be sent to; names are resolved when a webhook is sent.

        Raises:
            InvalidInput: not https, not a public address, or with a name and password in it.
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
        if host not in self.allowed:
            if parts.scheme == "http":
                raise InvalidInput("plain http goes to hosts of AUDITSVC_WEBHOOK_HOSTS only; take https")
            if host == "localhost" or not is_public(host, of_name=True):
                raise InvalidInput(f"{host} is not a public address; an admin can name it in AUDITSVC_WEBHOOK_HOSTS")
        return parts

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer.

        Raises:
            Unavailable: no response, none before the timeout, or a name with an address that is not public.
        """
        parts = self.check(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S)
        try:
            connection.sock = self._connected(host, port, parts.scheme)
            connection.request("POST", target, body, {**headers, "user-agent": "auditsvc"})
            return connection.getresponse().status
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise Unavailable(f"{parts.scheme}://{parts.netloc} does not answer: {error}") from error
        finally:
            connection.close()

    def _connected(self, host: str, port: int, scheme: str) -> socket.socket:
        found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        if host not in self.allowed and not all(is_public(address) for address in found):
            raise Unavailable(f"{host} has an address that is not public; see AUDITSVC_WEBHOOK_HOSTS")
        plain = socket.create_connection((found[0], port), timeout=TIMEOUT_S)
        return plain if scheme == "http" else ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def is_public(host: str, *, of_name: bool = False) -> bool:
    """Whether an address is globally reachable, also one of IPv4 inside one of IPv6; ``of_name`` for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return of_name
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo or (inner is not None and not inner.is_global):
            return False
    return address.is_global and not address.is_multicast
