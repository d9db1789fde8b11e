"""Files on their way in: streamed to the disk, hashed while they are written, kept by content, and nothing else done.

What is sent here is only stored.  A model's files are looked at by the job that admits them (``admit``), a document
by whoever names its file in a record.  The same bytes sent twice are kept once.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from auditsvc.errors import InvalidInput
from auditsvc.records import FileEntry
from auditsvc.web.authentication import site_of
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

router = APIRouter(route_class=RoleRoute, tags=["candidates"])

TAR = "application/x-tar"
MOST_FILES = 100
_BINARY = {"schema": {"type": "string", "format": "binary"}}

FileName = Annotated[
    str | None,
    Query(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,127}$",
        description="The file's name; a tar brings its names along.",
        examples=["instructions.pdf"],
    ),
]


class Uploaded(BaseModel):
    """What is kept now: each file with its size and digest, as records name files."""

    files: list[FileEntry]


@router.post(
    "/v1/uploads",
    status_code=201,
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY, TAR: _BINARY}}},
    summary="Send files",
)
async def upload(request: Request, name: FileName = None) -> Uploaded:
    """One file as it is, with `name`; or a model folder as `application/x-tar`: regular files without folders.

    The answer's `files` go into an `admit` job, or into a document's `file`.
    """
    site, person = site_of(request), request.state.caller.name
    is_tar = request.headers.get("content-type", "").partition(";")[0].strip() == TAR
    if not is_tar and name is None:
        raise InvalidInput("give the file's name as the parameter `name`, or send a tar as application/x-tar")
    with on_its_way(site) as scratch:
        path = scratch / (name or "files.tar")
        await _received(request, path)
        files = await run_in_threadpool(keep, site, path, person, is_tar)
    return Uploaded(files=files)


@contextmanager
def on_its_way(site: ProjectState) -> Iterator[Path]:
    """A folder for what is being sent, on the store's own disk; gone at the end."""
    folder = site.folder / "uploads"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="on-its-way-", dir=folder) as scratch:
        yield Path(scratch)


async def _received(request: Request, path: Path) -> None:
    with path.open("wb") as file:
        async for chunk in request.stream():
            await run_in_threadpool(file.write, chunk)


def keep(site: ProjectState, path: Path, person: str, is_tar: bool = False) -> list[FileEntry]:
    """Keep what was sent by its content, and note in the log who sent it.

    Raises:
        InvalidInput: a file is empty, or the tar holds what it may not.
    """
    paths = _unpacked(path) if is_tar else [path]
    if any(not one.stat().st_size for one in paths):
        raise InvalidInput("an empty file is no use to anybody")
    files = [site.ctx.blobs.put_file(one) for one in paths]
    for file in files:
        site.log_event("file.uploaded", person, object=file.digest, name=file.name, size=str(file.size))
    return files


def _unpacked(tar: Path) -> list[Path]:
    """The regular files of a tar, without folders, links or odd names.

    Raises:
        InvalidInput: no tar, an empty one, or one that holds anything else; names what.
    """
    folder = tar.parent / "files"
    folder.mkdir()
    try:
        with tarfile.open(tar, "r:") as archive:
            for number, member in enumerate(archive):
                name = member.name.removeprefix("./")
                if member.isdir() and name in ("", "."):
                    continue
                if number > MOST_FILES or not member.isreg() or "/" in name or name in ("", ".", ".."):
                    odd = repr(member.name[:200])
                    raise InvalidInput(f"a model's tar holds at most {MOST_FILES} files and no folders; not {odd}")
                archive.extract(member, folder, filter="data")
    except tarfile.TarError as error:
        raise InvalidInput(f"this is no tar: {error}") from error
    found = sorted(path for path in folder.iterdir() if path.is_file())
    if not found:
        raise InvalidInput("the tar is empty")
    return found
