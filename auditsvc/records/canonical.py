"""Canonical JSON (RFC 8785), written by the standard library's encoder wherever that gives the same bytes.

The reference, ``rfc8785``, is plain Python and takes most of the time of a report with some hundred slices.  Python's
own encoder is five times faster and differs in few things: numbers that it writes with an exponent or with ``.0``, keys
beyond ASCII, integers that JSON can't hold.  The first are written beforehand, the others are left to the reference,
which also finds the words for what is refused.  A test holds both to the same bytes.

Reference: A. Rundgren, B. Jordan and S. Erdtman (2020), "JSON Canonicalization Scheme (JCS)", RFC 8785.
"""

from __future__ import annotations

import json
import re
from typing import Any

import rfc8785

from auditsvc.errors import InvalidInput

_WRITTEN = "\ue000"
"""Stands around a number that was written beforehand: a character for private use that no text of ours has."""

_NUMBER = re.compile(f'"{_WRITTEN}([^"]*){_WRITTEN}"')
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"))
_LARGEST = 2**53


class _Unusual(Exception):
    """What the fast way does not know; never leaves this file."""


def canonical_json(value: Any) -> bytes:
    """RFC 8785 bytes of plain JSON data.

    Raises:
        InvalidInput: a value that JSON can't hold (NaN, infinity, an integer over 2**53).
    """
    try:
        try:
            return _NUMBER.sub(r"\1", _ENCODER.encode(_eased(value))).encode()
        except _Unusual:
            return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise InvalidInput(f"cannot be written as canonical JSON: {error}") from error


def _eased(value: Any) -> Any:
    """The value with every number as the encoder writes it right."""
    kind = type(value)
    if kind is str:
        if _WRITTEN in value:
            raise _Unusual
        return value
    if kind is float:
        return _number(value)
    if kind is dict:
        if not all(type(key) is str and key.isascii() for key in value):
            raise _Unusual
        return {key: _eased(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_eased(item) for item in value]
    if value is None or kind is bool or (kind is int and -_LARGEST < value < _LARGEST):
        return value
    raise _Unusual


def _number(value: float) -> Any:
    size = abs(value)
    if size < _LARGEST and value.is_integer():
        return int(value)
    if 1e-4 <= size < _LARGEST:
        return value
    return f"{_WRITTEN}{rfc8785.dumps(value).decode()}{_WRITTEN}"
