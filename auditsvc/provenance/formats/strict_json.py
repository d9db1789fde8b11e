"""Strict JSON and base64: input that two parsers could read differently is refused.

Most attacks on signed JSON need a lenient parser: duplicate keys, missing padding, trailing text.  All foreign input
is parsed here, and each refusal has a stable code.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import Any

from auditsvc.errors import InvalidInput

MAX_BYTES = 32 * 1024 * 1024
"""The largest bundle or metadata file that is read at all."""


class Fault(InvalidInput):
    """One thing that is wrong with a release, with the stable code in ``Step.code``."""

    def __init__(self, step_code: str, detail: str) -> None:
        self.step_code = step_code
        self.detail = detail
        super().__init__(f"{step_code}: {detail}")


def parse_json(data: bytes) -> Any:
    """The JSON value of these bytes.

    Raises:
        Fault: ``TOO_LARGE``, ``JSON_DUP_KEY``, or ``JSON_BAD`` for everything else that is not plain JSON
            (NaN, a byte order mark, text after the end, nesting that exhausts the reader, half a surrogate).
    """
    if len(data) > MAX_BYTES:
        raise Fault("TOO_LARGE", f"{len(data)} bytes; at most {MAX_BYTES} are read")
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_reject_duplicates,
            parse_constant=_reject_constant,
            parse_float=_finite,
        )
        if b"\\u" in data:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except Fault:
        raise
    except (ValueError, RecursionError) as error:
        raise Fault("JSON_BAD", f"not plain JSON: {str(error)[:200]}") from error
    return value


def _reject_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        duplicate = next(name for name in names if names.count(name) > 1)
        raise Fault("JSON_DUP_KEY", f"the key {duplicate[:80]!r} appears twice")
    return fields


def _reject_constant(text: str) -> float:
    raise Fault("JSON_BAD", f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise Fault("JSON_BAD", f"{text[:40]} is not a finite number")
    return number


def unbase64(value: Any, where: str) -> bytes:
    """The bytes of standard, padded, canonical base64.

    Raises:
        Fault: ``B64_BAD`` for the URL alphabet, missing padding, white space, or stray bits at the end.
    """
    if not isinstance(value, str):
        raise Fault("B64_BAD", f"{where} is not a string")
    try:
        data = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Fault("B64_BAD", f"{where} is not standard base64: {error}") from error
    if base64.b64encode(data).decode() != value:
        raise Fault("B64_BAD", f"{where} is not canonical base64")
    return data


def base64_of(data: bytes) -> str:
    """Standard, padded base64."""
    return base64.b64encode(data).decode()


def fields_of(value: Any, where: str, code: str, required: set[str], optional: frozenset[str] = frozenset()) -> Any:
    """The object itself, if it has all required and no unknown fields.

    Raises:
        Fault: with ``code``, naming the fields.
    """
    if not isinstance(value, dict):
        raise Fault(code, f"{where} is not an object")
    missing = sorted(required - value.keys())
    unknown = sorted(value.keys() - required - optional)
    if missing or unknown:
        message = [f"missing {', '.join(missing)}"] * bool(missing) + [f"unknown {', '.join(unknown)[:200]}"] * bool(
            unknown
        )
        raise Fault(code, f"{where}: {'; '.join(message)}")
    return value


def text_of(value: Any, where: str, code: str) -> str:
    """The string itself.

    Raises:
        Fault: with ``code``, where it is not a string.
    """
    if not isinstance(value, str):
        raise Fault(code, f"{where} is not a string")
    return value


def list_of(value: Any, where: str, code: str) -> list[Any]:
    """The list itself.

    Raises:
        Fault: with ``code``, where it is not a list.
    """
    if not isinstance(value, list):
        raise Fault(code, f"{where} is not a list")
    return value


def count_of(value: Any, where: str, code: str) -> int:
    """A whole number written as protobuf JSON does (a decimal string), at most 2**63 - 1.

    Raises:
        Fault: with ``code``.
    """
    if not isinstance(value, str) or not value.isascii() or not value.isdigit() or len(value) > 19:
        raise Fault(code, f"{where} is not a whole number in a string")
    if str(int(value)) != value or int(value) >= 2**63:
        raise Fault(code, f"{where} is not a canonical whole number")
    return int(value)
