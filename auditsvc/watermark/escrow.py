"""Key escrow for watermarks: encrypted, because with the unmarked candidate every watermark can be removed.

AES-256-GCM with a key derived from the master secret and the digest of the content; the digest is authenticated too,
so one release's file cannot be substituted for another's.

Reference: M. Dworkin (2007), "Galois/Counter Mode (GCM)", NIST SP 800-38D.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.models import read_weights
from auditsvc.records import Digest, digest_of
from auditsvc.watermark.channel_graph import ChannelGraph
from auditsvc.watermark.query_set import Queries
from auditsvc.watermark.watermark_keys import digest_bytes, require_bound, weights_file

_ORIGINAL, _QUERIES = b"auditsvc-unmarked/v1\n", b"auditsvc-queries/v1\n"
_NONCE = 12


@dataclass(frozen=True)
class Unmarked:
    """What a mark is read against: the weights before marking, and how their channels hang together."""

    weights: Mapping[str, Tensor]
    wiring: ChannelGraph | None = None


def encrypt_unmarked(master: bytes, unmarked: Digest, original: Unmarked) -> bytes:
    """The unmarked candidate as an encrypted file; two calls give different bytes (the nonce is random).

    Raises:
        InvalidInput: ``unmarked`` is not the digest of the weights.
    """
    require_bound(original.weights, unmarked)
    wiring = original.wiring.as_json() if original.wiring else b""
    header = json.dumps({"wiring": len(wiring)}).encode() + b"\n"
    return _closed(master, _ORIGINAL, digest_bytes(unmarked), header + wiring + weights_file(original.weights))


def decrypt_unmarked(master: bytes, unmarked: Digest, data: bytes) -> Unmarked:
    """The unmarked candidate from its encrypted file.

    Raises:
        InvalidInput: another master secret, another candidate's file, or a changed byte.
    """
    plain = _opened(master, _ORIGINAL, digest_bytes(unmarked), data, f"the unmarked candidate {unmarked}")
    header, _, rest = plain.partition(b"\n")
    size = int(json.loads(header)["wiring"])
    wiring = ChannelGraph.from_json(rest[:size]) if size else None
    weights = read_weights(rest[size:])
    require_bound(weights, unmarked)
    return Unmarked(weights, wiring)


def encrypt_queries(master: bytes, queries: Queries) -> tuple[Digest, bytes]:
    """The digest that a mark commits to, and the encrypted file: queries reveal the key, so they are secret too."""
    plain = queries.as_bytes()
    digest = digest_of(plain)
    return digest, _closed(master, _QUERIES, digest_bytes(digest), plain)


def decrypt_queries(master: bytes, digest: Digest, data: bytes) -> Queries:
    """The queries that a mark committed to, from their encrypted file.

    Raises:
        InvalidInput: another master secret, other queries, or a changed byte.
    """
    return Queries.from_bytes(_opened(master, _QUERIES, digest_bytes(digest), data, f"the queries {digest}"))


def _closed(master: bytes, kind: bytes, bound: bytes, plain: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return kind + nonce + AESGCM(_key(master, bound)).encrypt(nonce, plain, kind + bound)


def _opened(master: bytes, kind: bytes, bound: bytes, data: bytes, what: str) -> bytes:
    start = len(kind) + _NONCE
    if not data.startswith(kind) or len(data) < start:
        raise InvalidInput(f"this is not the encrypted file of {what}")
    try:
        return AESGCM(_key(master, bound)).decrypt(data[len(kind) : start], data[start:], kind + bound)
    except InvalidTag as error:
        raise InvalidInput(f"{what} can't be decrypted: a changed file, or another master secret") from error


def _key(master: bytes, bound: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=bound, info=b"auditsvc-wm/v1|at-rest").derive(master)
