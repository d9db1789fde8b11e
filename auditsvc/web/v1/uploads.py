"""Uploads, and downloads of releases as tar archives.

Uploads are streamed to disk, hashed while written, and stored by content, so the same bytes are stored once.  An upload
is only stored: the ``admit`` job reads the files of a model, and a reviewer reads the file of a document.

A tar is unpacked only after every header was checked.  A header may not declare more bytes than arrived, so a sparse
member of a few kB can't fill the disk; long-name and PAX headers are limited, because ``tarfile`` reads each into
memory.  Names are those that a release may have, each once, and none that differs from another only by case, Unicode
form or invisible characters.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats.manifest import collisions, name_fault, shown
from auditsvc.records import FileEntry
from auditsvc.web.auth.authentication import BINARY, Router, site_of
from auditsvc.web.state import ProjectState

CHUNK = 1 << 20
MAX_MEMBERS = 10_000
_BLOCK = tarfile.BLOCKSIZE


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
    what = f"a release's tar holds at most {MAX_MEMBERS} files, in release/ and attest/ only"
    parts = ("release/", "attest/")
    unpack_files(tar, folder, most=MAX_MEMBERS, allowed=lambda name: name.startswith(parts), what=what)


router = Router(tags=["candidates"])

TAR = "application/x-tar"
MAX_FILES = 100

FileName = Annotated[
    str | None,
    Query(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,127}$",
        description="The file's name; not needed for a tar.",
        examples=["instructions.pdf"],
    ),
]


class Uploaded(BaseModel):
    """The stored files with size and digest, in the form that records use."""

    files: list[FileEntry]


@router.post(
    "/v1/uploads",
    needs="submitter",
    creates=Uploaded,
    takes={"application/octet-stream": BINARY, TAR: BINARY},
    summary="Upload files",
)
async def create_upload(request: Request, name: FileName = None) -> Uploaded:
    """One file as it is, with `name`; or a model folder as `application/x-tar`: regular files without folders.

    Use the returned `files` in an `admit` job, or one of them as a document's `file`.
    """
    site, person = site_of(request), request.state.caller.name
    is_tar = request.headers.get("content-type", "").partition(";")[0].strip() == TAR
    if not is_tar and name is None:
        raise InvalidInput("give the file name as the parameter `name`, or send a tar as application/x-tar")
    with upload_folder(site) as scratch:
        path = scratch / (name or "files.tar")
        await run_in_threadpool(site.require_room)
        await save_body(request, path, partial(site.uploads.count, person))
        files = await run_in_threadpool(store_upload, site, path, person, is_tar)
    return Uploaded(files=files)


@contextmanager
def upload_folder(site: ProjectState) -> Iterator[Path]:
    """A temporary folder on the store's disk, removed at the end."""
    folder = site.folder / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="upload-", dir=folder) as scratch:
        yield Path(scratch)


async def save_body(request: Request, path: Path, count: Callable[[int], None] = lambda _: None) -> None:
    """Stream a request's body to a file; ``count`` gets the bytes of each part, and may raise."""
    with path.open("wb") as file:
        async for chunk in request.stream():
            count(len(chunk))
            await run_in_threadpool(file.write, chunk)


def store_form_file(site: ProjectState, upload: UploadFile, person: str, unnamed: str) -> FileEntry:
    """Store a file of a form under its own name, without characters that file names can't have.

    Raises:
        InvalidInput: it is empty.
        StorageFull: the project's quota is used up.
        TooMany: the caller uploaded too much in a day.
    """
    site.require_room()
    site.uploads.count(person, upload.size or 0)
    last = re.split(r"[/\\]", upload.filename or "")[-1]
    name = re.sub(r"[^A-Za-z0-9._ -]", "-", last).lstrip("._ -")[-128:] or unnamed
    with upload_folder(site) as scratch:
        path: Path = scratch / name
        with path.open("wb") as file:
            while data := upload.file.read(CHUNK):
                file.write(data)
        return store_upload(site, path, person)[0]


def store_upload(site: ProjectState, path: Path, person: str, is_tar: bool = False) -> list[FileEntry]:
    """Store uploaded files by content, and log who sent them.

    Raises:
        InvalidInput: a file is empty, or the tar has an entry that is not allowed.
    """
    paths = _unpacked(path) if is_tar else [path]
    if any(not one.stat().st_size for one in paths):
        raise InvalidInput("an uploaded file must not be empty")
    files = [site.ctx.blobs.put_file(one) for one in paths]
    for file in files:
        site.log_event("file.uploaded", person, object=file.digest, name=file.name, size=str(file.size))
    return files


def _unpacked(tar: Path) -> list[Path]:
    """Unpack a tar of regular files without folders.

    Raises:
        InvalidInput: not a tar, empty, or with an entry that is not allowed; names the entry.
    """
    folder = tar.parent / "files"
    folder.mkdir()
    what = f"the tar of a model has at most {MAX_FILES} regular files and no folders"
    unpack_files(tar, folder, most=MAX_FILES, allowed=lambda name: "/" not in name, what=what)
    found = sorted(path for path in folder.iterdir() if path.is_file())
    if not found:
        raise InvalidInput("the tar is empty")
    return found


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
