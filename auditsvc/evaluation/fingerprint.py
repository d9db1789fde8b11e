"""Cache keys for what was done to the images, and the version of the code that did it.

Cached predictions of the parent are bound to such a key.  The name of a condition alone is not enough:
``occlusion.square@0.1`` in grey and in black are two conditions of one name.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from functools import cache, partial
from pathlib import Path

from pydantic import BaseModel
from torch import nn

from auditsvc import __version__
from auditsvc.plugins import installed, origin_of, source_of


def fingerprint(work: object) -> str | None:
    """The key of a disturbance or an attack; None where nothing short of the object itself identifies it.

    Functions of a module, partials of them with plain arguments, and dataclasses of such values have a key; lambdas and
    closures have none, so their results are never cached.
    """
    if work is None or isinstance(work, bool | int | float | str | bytes):
        return repr(work)
    if isinstance(work, tuple | list):
        return _joined("list", [fingerprint(item) for item in work])
    if isinstance(work, partial):
        given = [fingerprint(work.func), *map(fingerprint, work.args)]
        return _joined("partial", [*given, *(_named(key, work.keywords[key]) for key in sorted(work.keywords))])
    if isinstance(work, nn.Module):
        return None
    if isinstance(work, BaseModel):
        return f"{type(work).__module__}.{type(work).__qualname__}({work.model_dump_json()})"
    if is_dataclass(work) and not isinstance(work, type):
        parts = [_named(field.name, getattr(work, field.name)) for field in fields(work)]
        return _joined(f"{type(work).__module__}.{type(work).__qualname__}", parts)
    name = getattr(work, "__qualname__", "<")
    return None if "<" in name else f"{getattr(work, '__module__', '')}.{name}"


def _named(key: str, value: object) -> str | None:
    words = fingerprint(value)
    return None if words is None else f"{key}={words}"


def _joined(name: str, parts: list[str | None]) -> str | None:
    known = [part for part in parts if part is not None]
    return f"{name}({', '.join(known)})" if len(known) == len(parts) else None


@cache
def code_version() -> str:
    """The version of the code that readings come from, with a digest of its sources and those of installed plug-ins.

    Evidence is bound to it, so that a changed check is never answered from evidence of the old one.
    """
    root = Path(__file__).parents[1]
    folders = [root / part for part in ("checks", "datasets", "evaluation", "models", "runtimes", "tasks")]
    sources = sorted(path for folder in folders for path in folder.rglob("*.py"))
    text = b"".join(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() for path in sources)
    for group in ("checks", "tasks", "datasets", "architectures"):
        text += b"".join(origin_of(point).encode() + source_of(point) for point in installed(f"auditsvc.{group}"))
    return f"{__version__}+{hashlib.sha256(text).hexdigest()[:12]}"
