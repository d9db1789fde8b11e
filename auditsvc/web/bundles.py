"""A release as a tar: streamed while it is written, and unpacked safely."""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from auditsvc.errors import InvalidInput

CHUNK = 1 << 20
MAX_MEMBERS = 10_000
_BLOCK = 512


def files_of(folder: Path) -> dict[str, Path]:
    """Every regular file under a folder, by its name inside; links are not followed."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def tar_of(folder: Path, parts: Iterable[str]) -> Iterator[bytes]:
    """The tar of some subfolders, reproducible byte for byte, in chunks of bounded size."""
    for part in parts:
        for name, path in files_of(folder / part).items():
            head = tarfile.TarInfo(f"{part}/{name}")
            head.size, head.mode = path.stat().st_size, 0o644
            yield head.tobuf(tarfile.PAX_FORMAT)
            yield from _content(path, head.size)
            yield b"\0" * (-head.size % _BLOCK)
    yield b"\0" * (2 * _BLOCK)


def _content(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        while size and (data := file.read(min(CHUNK, size))):
            size -= len(data)
            yield data


def unpack(tar: Path, folder: Path) -> None:
    """Unpack a release's tar: regular files under ``release/`` and ``attest/`` only.

    Raises:
        InvalidInput: not a tar, or an entry that is not allowed; names the entry.
    """
    try:
        with tarfile.open(tar, "r:") as archive:
            for number, member in enumerate(archive):
                _check(member, number)
                archive.extract(member, folder, filter="data")
    except tarfile.TarError as error:
        raise InvalidInput(f"this is not the tar of a release: {error}") from error


def _check(member: tarfile.TarInfo, number: int) -> None:
    top, nested = member.name.removeprefix("./").partition("/")[0], member.name not in (".", "./")
    if number >= MAX_MEMBERS:
        raise InvalidInput(f"a release has at most {MAX_MEMBERS} files")
    if not (member.isreg() or member.isdir()) or (nested and top not in ("release", "attest")):
        raise InvalidInput(f"a release's tar holds files in release/ and attest/ only, not {member.name[:200]!r}")
