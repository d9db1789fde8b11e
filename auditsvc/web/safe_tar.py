"""Unpacking a tar that a stranger sent: every header is checked before a byte is written.

A header may not promise more bytes than arrived, so a sparse member of some kB can't fill a disk.  Long-name and PAX
headers are limited, because ``tarfile`` reads each into memory.  Names are those that a release may have, each once,
and none that differs from another by case, Unicode form or invisible characters alone.
"""

from __future__ import annotations

import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats.manifest import collisions, name_fault, shown

_BLOCK = tarfile.BLOCKSIZE
_EXTENDED = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
_WITH_DATA = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE, *_EXTENDED)
_LONGEST_HEADER = 64 * 1024
_LONGEST_PART, _LONGEST_NAME = 255, 1024
"""Bytes in one part of a path, on the file systems in use, and in all of it."""


def unpack_files(tar: Path, folder: Path, *, most: int, allowed: Callable[[str], bool], what: str) -> None:
    """Unpack regular files whose names are ``allowed``; ``what`` says in an error what such a tar holds.

    Raises:
        InvalidInput: not a tar, or a member that is not allowed; names the member.
    """
    seen: set[str] = set()
    folders: set[str] = set()
    try:
        _check_headers(tar)
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isdir() and (name in ("", ".") or allowed(f"{name}/")):
                    continue
                fault = "" if member.isreg() and allowed(name) and len(seen) < most else "not allowed here"
                fault = fault or _name_fault(name) or ("found twice" if name in seen else "")
                above = {name[:end] for end, letter in enumerate(name) if letter == "/"}
                if name in folders or above & seen:
                    fault = fault or "a file and a folder"
                seen.add(name)
                folders |= above
                if fault:
                    raise InvalidInput(f"{what}; {shown(member.name)!r}: {fault}")
                member.name = name
                archive.extract(member, folder, filter="data")
        alike = [fault.detail for fault in collisions(sorted(seen))]
        if alike:
            raise InvalidInput(what, alike[:10])
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as error:
        raise InvalidInput(f"the body is not a tar that can be read: {error}") from error


def _name_fault(name: str) -> str:
    fault = name_fault(name)
    if fault:
        return fault.detail
    if any(unicodedata.category(character) in ("Cf", "Cc", "Co", "Cs", "Zl", "Zp") for character in name):
        return "the name has invisible characters"
    if len(name.encode()) > _LONGEST_NAME:
        return f"the name has more than {_LONGEST_NAME} bytes"
    longest = max(len(part.encode()) for part in name.split("/"))
    return f"a part of the name has more than {_LONGEST_PART} bytes" if longest > _LONGEST_PART else ""


def _check_headers(tar: Path) -> None:
    """Walk over the headers alone.  Raises ``InvalidInput`` or ``tarfile.TarError``."""
    total = tar.stat().st_size
    with tar.open("rb") as file:
        while len(block := file.read(_BLOCK)) == _BLOCK and block.strip(b"\0"):
            head = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            kind, size, place, name = head.type, head.size, file.tell(), shown(head.name)
            if kind == tarfile.GNUTYPE_SPARSE:
                raise InvalidInput(f"{name!r} is a sparse member; pack it without holes")
            if size < 0 or place + size > total or (size and kind not in _WITH_DATA):
                raise InvalidInput(f"{name!r} declares {size} bytes, which the archive does not have")
            if kind in _EXTENDED:
                if size > _LONGEST_HEADER:
                    raise InvalidInput(f"an extended header of {size} bytes; at most {_LONGEST_HEADER} are allowed")
                text = file.read(size)
                if b" size=" in text or b"GNU.sparse." in text:
                    raise InvalidInput("an extended header with another size than the member has; pack without holes")
            file.seek(place + size + -size % _BLOCK)
