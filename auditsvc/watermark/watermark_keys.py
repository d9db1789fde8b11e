"""Watermark keys: seeds, sub-keys, sign patterns, the payload, and the commitment.

One master secret gives a seed for each unmarked model, release and recipient; a seed gives sixteen sub-keys, and each
sub-key the signs of one sixteenth of the weights.  Revealing one sub-key proves the watermark and leaves fifteen
secret: the sub-keys are leaves of a Merkle tree, hashed as in RFC 6962 (a zero byte before a leaf, a one before a
node).

Every stream is bound to the digest of the unmarked weights.  Otherwise anyone could subtract their own pattern from
another model and claim the result as the original.  All streams are SHAKE-256: bit-identical on every machine.

Reference: NIST (2015), "SHA-3 Standard", FIPS 202; H. Krawczyk and P. Eronen (2010), "HKDF", RFC 5869;
B. Laurie et al. (2013), "Certificate Transparency", RFC 6962.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.records import Digest, Mark, canonical_json, digest_of

SCHEME = "nsk-sign-v1"
"""Null-space keyed sign residual, first version."""

SLOTS = 64
"""Bits of the message; each weight carries one of them."""

LANES = 16
"""Sub-keys; each weight belongs to one of them, in public."""

_TAG = b"auditsvc-wm/v1|"


@dataclass(frozen=True)
class Payload:
    """The message in the mark: which release, for whom, and a check sum (CRC-16) over both."""

    release: int
    recipient: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.release < 2**32 and 0 <= self.recipient < 2**16):
            raise InvalidInput(
                f"a payload holds a release number of 32 bits and a recipient number of 16 bits, "
                f"not {self.release} and {self.recipient}"
            )

    @property
    def words(self) -> bytes:
        """Eight bytes: release, recipient, check sum, most significant first."""
        body = self.release.to_bytes(4, "big") + self.recipient.to_bytes(2, "big")
        return body + binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")

    @property
    def signs(self) -> NDArray[np.float32]:
        """``(64,)``: +1 for a zero bit, -1 for a one."""
        bits = np.unpackbits(np.frombuffer(self.words, np.uint8))
        return (1 - 2 * bits.astype(np.float32)).astype(np.float32)

    @classmethod
    def from_signs(cls, signs: NDArray[np.floating[Any]]) -> Self | None:
        """The message behind these 64 signs, or None where the check sum does not fit: no message, an ordinary case."""
        words = np.packbits(np.asarray(signs) < 0).tobytes()
        found = cls(int.from_bytes(words[:4], "big"), int.from_bytes(words[4:6], "big"))
        return found if found.words == words else None


def derive_seed(master: bytes, unmarked: Digest, release: str, recipient: str = "") -> bytes:
    """32 bytes that mark this unmarked model for this release and recipient; nothing in it can be chosen freely.

    Raises:
        InvalidInput: a master secret of fewer than 32 bytes.
    """
    if len(master) < 32:
        raise InvalidInput("the watermark's master secret must have at least 32 bytes")
    info = _TAG + canonical_json([release, recipient])
    return HKDF(algorithm=SHA256(), length=32, salt=digest_bytes(unmarked), info=info).derive(master)


def derive_subkeys(seed: bytes) -> tuple[bytes, ...]:
    """The sixteen sub-keys of a seed, 32 bytes each; none reveals anything about another."""
    return tuple(hmac.new(seed, _TAG + b"subkey|%d" % lane, hashlib.sha256).digest() for lane in range(LANES))


def digest_bytes(digest: Digest) -> bytes:
    """The 32 bytes behind ``sha256:...``."""
    return bytes.fromhex(digest.removeprefix("sha256:"))


def weights_digest(weights: Mapping[str, Tensor]) -> Digest:
    """The name of a set of weights: SHA-256 of its plain safetensors file (no metadata, contiguous tensors)."""
    return digest_of(weights_file(weights))


def weights_file(weights: Mapping[str, Tensor]) -> bytes:
    """The weights as a plain safetensors file: same names, dtypes and values, no metadata."""
    return bytes(save({name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}))


def require_bound(weights: Mapping[str, Tensor], unmarked: Digest) -> None:
    """Refuse weights that are not the ones a mark is bound to.

    Raises:
        InvalidInput: the digest is of something else.
    """
    actual = weights_digest(weights)
    if actual != unmarked:
        raise InvalidInput(
            f"the unmarked weights have the digest {actual}, not {unmarked}; "
            "a mark is bound to auditsvc.watermark.weights_digest() of the exact weights before marking"
        )


def lanes(unmarked: Digest, layer: str, size: int) -> NDArray[np.uint8]:
    """``(size,)`` in 0..15: which sub-key each weight of a layer belongs to.  Public: it needs no secret."""
    return _stream(b"lane|", digest_bytes(unmarked), layer, size) % LANES


@dataclass(frozen=True)
class Carrier:
    """Signs and message slots of one layer; ``signs`` is 0 where the sub-key is not at hand."""

    signs: NDArray[np.float32]
    slots: NDArray[np.uint8]

    def carrying(self, payload: Payload) -> NDArray[np.float32]:
        """``(size,)`` in -1, 0, +1: the signs with the message on them."""
        return (self.signs * payload.signs[self.slots]).astype(np.float32)


def carrier(subkeys: Mapping[int, bytes], unmarked: Digest, layer: str, size: int) -> Carrier:
    """Signs and slots of all weights of one layer that belong to these sub-keys (lane number to key)."""
    bound = digest_bytes(unmarked)
    lane_of = lanes(unmarked, layer, size)
    by_lane = np.split(np.argsort(lane_of, kind="stable"), np.cumsum(np.bincount(lane_of, minlength=LANES))[:-1])
    signs = np.zeros(size, np.float32)
    slots = np.zeros(size, np.uint8)
    for lane, key in subkeys.items():
        mine = by_lane[lane]
        bits = np.unpackbits(_stream(b"sign|" + key, bound, layer, -(-len(mine) // 8)), count=len(mine))
        signs[mine] = 1 - 2 * bits.astype(np.float32)
        slots[mine] = _stream(b"slot|" + key, bound, layer, len(mine)) % SLOTS
    return Carrier(signs, slots)


def all_subkeys(seed: bytes) -> dict[int, bytes]:
    """Lane number to sub-key, for all sixteen."""
    return dict(enumerate(derive_subkeys(seed)))


def _stream(purpose: bytes, bound: bytes, layer: str, size: int) -> NDArray[np.uint8]:
    return np.frombuffer(hashlib.shake_256(_TAG + purpose + bound + layer.encode()).digest(size), np.uint8)


def commitment(seed: bytes, unmarked: Digest, payload: Payload, parameters: Mapping[str, Any]) -> Digest:
    """What can be published before any dispute: it fixes key, payload, original and parameters, and shows none."""
    return digest_of(
        b"auditsvc-wm-commit/v1" + seed + digest_bytes(unmarked) + payload.words + canonical_json(dict(parameters))
    )


def verify_commitment(mark: Mark, seed: bytes, payload: Payload) -> bool:
    """Whether the published mark is that of this seed and payload."""
    return hmac.compare_digest(commitment(seed, mark.unmarked, payload, mark.parameters), mark.commitment)


@dataclass(frozen=True)
class Reveal:
    """One sub-key with its path to the committed root; the other fifteen stay secret."""

    lane: int
    subkey: bytes
    path: tuple[bytes, ...]


def subkeys_root(seed: bytes) -> Digest:
    """The root of the tree over a seed's sub-keys; it goes into the public mark."""
    return "sha256:" + _levels(seed)[-1][0].hex()


def reveal_subkey(seed: bytes, lane: int) -> Reveal:
    """One sub-key, ready to be shown.

    Raises:
        InvalidInput: no such lane.
    """
    if not 0 <= lane < LANES:
        raise InvalidInput(f"sub-keys are numbered 0 to {LANES - 1}; there is no {lane}")
    path = tuple(level[(lane >> depth) ^ 1] for depth, level in enumerate(_levels(seed)[:-1]))
    return Reveal(lane, derive_subkeys(seed)[lane], path)


def require_revealed(reveal: Reveal, root: Digest) -> None:
    """Refuse a sub-key that the root does not commit to.

    Raises:
        InvalidInput: the path does not lead from this sub-key to the root.
    """
    node = _leaf(reveal.subkey)
    for depth, sibling in enumerate(reveal.path):
        node = _node(sibling, node) if reveal.lane >> depth & 1 else _node(node, sibling)
    if 2 ** len(reveal.path) != LANES or "sha256:" + node.hex() != root:
        raise InvalidInput("the sub-key that was shown is not one that the mark commits to")


def _levels(seed: bytes) -> list[list[bytes]]:
    """All levels of the tree, leaves first, root last."""
    levels = [[_leaf(subkey) for subkey in derive_subkeys(seed)]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([_node(below[i], below[i + 1]) for i in range(0, len(below), 2)])
    return levels


def _leaf(subkey: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + subkey).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()
