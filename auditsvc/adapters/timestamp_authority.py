"""Timestamps from an RFC 3161 authority over HTTP: third-party proof that a signature existed at a given time.

Every response is verified against the authority's certificates before it is used.

Reference: C. Adams, P. Cain, D. Pinkas, R. Zuccherato (2001), "Time-Stamp Protocol", RFC 3161.
"""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance.formats.rfc3161 import time_of
from auditsvc.provenance.formats.strict_json import Fault

TIMEOUT_S = 20
_MOST = 64 * 1024
"""Bytes of an answer that are read; a token has some thousands."""


@dataclass(frozen=True)
class HttpTimestamps:
    """``ports.Timestamps``: an authority by its address; ``authority`` are its certificates in PEM, root last."""

    url: str
    authority: str

    @classmethod
    def at(cls, url: str, certificates: Path) -> HttpTimestamps:
        """The authority at this address, with the certificates in this file.

        Raises:
            InvalidInput: not an HTTP address, or a file that can't be read.
        """
        if not url.startswith(("http://", "https://")):
            raise InvalidInput(f"a time stamping authority has an address that starts with http, not {url!r}")
        try:
            return cls(url, certificates.read_text())
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInput(f"the authority's certificates {certificates} can't be read: {error}") from error

    def stamp(self, data: bytes) -> bytes:
        """The authority's response over these bytes, checked.

        Raises:
            Unavailable: it can't be reached, refuses, or answers with something else.
        """
        try:
            from rfc3161_client import HashAlgorithm, TimestampRequestBuilder
        except ImportError as error:
            raise Unavailable("time stamps need rfc3161-client: pip install 'auditsvc[timestamp]'") from error
        query = (
            TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).cert_request(cert_request=True)
        )
        request = urllib.request.Request(  # noqa: S310 - http only, see ``at``
            self.url, query.build().as_bytes(), {"content-type": "application/timestamp-query"}
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310
                token: bytes = answer.read(_MOST)
        except (urllib.error.URLError, OSError) as error:
            raise Unavailable(f"the time stamping authority {self.url} does not answer: {error}") from error
        try:
            time_of((token,), data, (self.authority,))
        except Fault as fault:
            raise Unavailable(f"the time stamping authority {self.url}: {fault.detail}") from fault
        return token
