"""What commands print: people read lines, programs read one JSON object."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel

from auditsvc.errors import AuditError, InvalidInput


def wants_json() -> bool:
    """Whether this call asked for JSON; taken from the arguments, as an error may come before they are parsed."""
    return "--json" in sys.argv


def print_json(value: BaseModel | dict[str, Any]) -> None:
    """One JSON object on standard output."""
    plain = value.model_dump(mode="json", exclude_none=True) if isinstance(value, BaseModel) else value
    print(json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False))


def fail(error: AuditError) -> int:
    """Say what went wrong, for people on standard error, for programs on standard output; the exit code."""
    if wants_json():
        reasons = list(error.reasons) if isinstance(error, InvalidInput) else []
        print_json({"error": {"code": error.code, "message": str(error).split("\n")[0], "reasons": reasons}})
    else:
        print(f"auditsvc: {error}", file=sys.stderr)
    return error.exit_code
