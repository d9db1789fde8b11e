"""Keep the unmarked candidate: encrypted, because whoever has it can take every mark off.

AES-256-GCM with a key from the master secret and the digest of the weights; the digest is authenticated too, so
one release's file can't be passed off as another's.

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
from safetensors.torch import load
from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.records import Digest
from auditsvc.watermark.keys import digest_bytes, require_bound, weights_file
from auditsvc.watermark.wiring import Wiring

_MAGIC = b"auditsvc-unmarked/v1\n"
_NONCE = 12


@dataclass(frozen=True)
class Unmarked:
    """What a mark is read against: the weights before marking, and how their channels hang together."""

    weights: Mapping[str, Tensor]
    wiring: Wiring | None = None


def lock(master: bytes, unmarked: Digest, original: Unmarked) -> bytes:
    """The unmarked candidate as an encrypted file; two calls give different bytes (the nonce is random).

    Raises:
        InvalidInput: ``unmarked`` is not the digest of the weights.
    """
    require_bound(original.weights, unmarked)
    wiring = original.wiring.as_json() if original.wiring else b""
    header = json.dumps({"wiring": len(wiring)}).encode() + b"\n"
    nonce = os.urandom(_NONCE)
    plain = header + wiring + weights_file(original.weights)
    return _MAGIC + nonce + AESGCM(_key(master, unmarked)).encrypt(nonce, plain, digest_bytes(unmarked))


def unlock(master: bytes, unmarked: Digest, data: bytes) -> Unmarked:
    """The unmarked candidate from its encrypted file.

    Raises:
        InvalidInput: another master secret, another candidate's file, or a changed byte.
    """
    start = len(_MAGIC) + _NONCE
    if not data.startswith(_MAGIC) or len(data) < start:
        raise InvalidInput("this is not the encrypted file of an unmarked candidate")
    nonce = data[len(_MAGIC) : start]
    try:
        plain = AESGCM(_key(master, unmarked)).decrypt(nonce, data[start:], digest_bytes(unmarked))
    except InvalidTag as error:
        raise InvalidInput(
            f"the unmarked candidate {unmarked} can't be decrypted: a changed file, or another master secret"
        ) from error
    header, _, rest = plain.partition(b"\n")
    size = int(json.loads(header)["wiring"])
    wiring = Wiring.from_json(rest[:size]) if size else None
    weights = load(rest[size:])
    require_bound(weights, unmarked)
    return Unmarked(weights, wiring)


def _key(master: bytes, unmarked: Digest) -> bytes:
    info = b"auditsvc-wm/v1|at-rest"
    return HKDF(algorithm=SHA256(), length=32, salt=digest_bytes(unmarked), info=info).derive(master)
