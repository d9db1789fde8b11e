"""Safe reading of weights: the header is judged before a tensor is made, and nothing is unpickled or executed.

Reference: the safetensors format, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import json
import struct

from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from torch import Tensor

from auditsvc.errors import Refused
from auditsvc.models.foreign import HEAD_BYTES, foreign

MAX_HEADER, MAX_TENSORS = 10 * 2**20, 100_000


def read_weights(data: bytes, name: str = "model.safetensors") -> dict[str, Tensor]:
    """The tensors of a safetensors file, in memory of their own.

    Parsed from bytes they lie wherever the bytes do, and the order in which sums are taken, so their last digit,
    depends on that.

    Raises:
        Refused: anything else, with the reason and what would work.
    """
    if reason := foreign(data[:HEAD_BYTES], name, data):
        raise Refused(reason)
    if len(data) < 8:
        raise Refused(f"{name} is cut off: {len(data)} bytes are too few for a safetensors file; copy it again")
    (header,) = struct.unpack("<Q", data[:8])
    if header > MAX_HEADER:
        raise Refused(f"{name} is not a safetensors file, or its header is over {MAX_HEADER} bytes")
    if len(data) < 8 + header:
        raise Refused(f"{name} is cut off inside its header; copy it again")
    _check_header(data[8 : 8 + header], name)
    try:
        tensors: dict[str, Tensor] = parse_safetensors(data)
    except (SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise Refused(f"{name} is damaged or cut off ({error}); copy it again from where it was saved") from error
    return {key: tensor.clone() for key, tensor in tensors.items()}


def _check_header(header: bytes, name: str) -> None:
    """Two tensors of one name would let two readers see two models in one file."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len({key for key, _ in pairs}) != len(pairs):
            raise Refused(f"{name} names a tensor twice")
        return dict(pairs)

    try:
        tensors = json.loads(header, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{name} is not a safetensors file: {error}") from error
    if not isinstance(tensors, dict):
        raise Refused(f"{name} is not a safetensors file: its header is no JSON object")
    if len(tensors) > MAX_TENSORS:
        raise Refused(f"{name} holds more than {MAX_TENSORS} tensors")
