"""Content-addressed files, in a local folder or in object storage (fsspec: ``s3://bucket/prefix`` and others).

The blob with SHA-256 ``abcdef...`` is stored as ``ab/cdef...``.  Writes are atomic: a local blob is written to a
temporary file, flushed and renamed; an object appears when its upload is complete.  Partial writes are removed at once
or, after a crash, by later writes.  Objects are hashed before the upload and again when they are read.

Endpoint and credentials of object storage come from the environment variables of the storage library
(``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...), never from the settings of auditsvc.

Limit: if the storage allows overwrites, anyone with write access can corrupt blobs; reads detect it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from auditsvc.errors import Conflict, InvalidInput, NotFound, StorageFull, Unavailable
from auditsvc.records import Digest, FileEntry, digest_of

_CHUNK = 1 << 20
"""Bytes that are read at once: no file is ever in memory whole."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLACES = f"[0-9a-f][0-9a-f]/{'[0-9a-f]' * 62}"
_UNFINISHED = ".unfinished-"
_STALE_S = 24 * 3600
"""An unfinished file or folder of this age, in seconds, has no writer any more."""


class ContentBlobs(ABC):
    """What is the same wherever the bytes are: names from content, checked reading, folders that appear whole."""

    def put(self, data: bytes) -> Digest:
        """Store these bytes; see ``ports.Blobs.put``."""
        digest = digest_of(data)
        if not self._renew(digest):
            self._store([data])
        return digest

    def _renew(self, digest: Digest) -> bool:
        """Whether the blob is there; one that is counts as new for ``remove_unused``."""
        return self.has(digest)

    def put_file(self, path: Path) -> FileEntry:
        """Store a file, streaming.  Raises ``NotFound``, ``Unavailable``."""
        with opened(path) as source:
            digest, size = self._store(chunks(source, str(path)))
        return FileEntry(name=path.name, size=size, digest=digest)

    def read(self, digest: Digest) -> bytes:
        """The bytes, checked against the digest; see ``ports.Blobs.read``."""
        with self._source(digest) as source:
            data = b"".join(chunks(source, self._where(digest)))
        if digest_of(data) != digest:
            raise self._damaged(digest)
        return data

    @abstractmethod
    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""

    @abstractmethod
    def _where(self, digest: Digest) -> str:
        """The blob's place, in words for people."""

    @abstractmethod
    def _source(self, digest: Digest) -> AbstractContextManager[BinaryIO]:
        """The blob, open for reading.  Raises ``NotFound``, ``Unavailable``."""

    @abstractmethod
    def _store(self, parts: Iterable[bytes]) -> tuple[Digest, int]:
        """Write the parts under the digest that they turn out to have; returns it and the size in bytes."""

    def checkout(self, files: Sequence[FileEntry], folder: Path) -> None:
        """Write these files into an empty or absent folder; it appears whole.

        Raises:
            InvalidInput: the name of a file leaves the folder.
            Conflict: something is in the folder already.
            NotFound: one of the blobs is not there.
            Unavailable: a blob is damaged, or the folder can't be written.
        """
        partial = folder.parent / f"{_UNFINISHED}{uuid.uuid4().hex}"
        with writes(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            _sweep(folder.parent)
            _must_be_empty(folder)
            try:
                partial.mkdir()
                for file in files:
                    self._copy(file, partial / file.name)
                for place in sorted(path for path in partial.rglob("*") if path.is_dir()):
                    _flush_folder(place)
                _flush_folder(partial)
                _take_place(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            _flush_folder(folder.parent)

    def _copy(self, file: FileEntry, to: Path) -> None:
        """One blob to its place in the folder, hashed on the way."""
        if ".." in Path(file.name).parts:
            raise InvalidInput(f"the file name {file.name!r} leaves its folder")
        to.parent.mkdir(parents=True, exist_ok=True)
        seen = hashlib.sha256()
        with self._source(file.digest) as source, to.open("xb") as target:
            for chunk in chunks(source, self._where(file.digest)):
                seen.update(chunk)
                target.write(chunk)
            _flush(target)
        if f"sha256:{seen.hexdigest()}" != file.digest:
            raise self._damaged(file.digest)

    def _damaged(self, digest: Digest) -> Unavailable:
        words = f"its bytes are not {digest}; delete it and store it again"
        return Unavailable(f"the file {self._where(digest)} is damaged: {words}")


class FileBlobs(ContentBlobs):
    """``ports.Blobs`` in a folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        try:
            return _DIGEST.fullmatch(digest) is not None and self._place(digest).is_file()
        except OSError as error:
            raise Unavailable(f"the folder {self._folder} can't be read: {error.strerror}") from error

    def _renew(self, digest: Digest) -> bool:
        try:
            os.utime(self._place(digest))
        except OSError:  # not there, or of another user: a copy of our own takes its place
            return False
        return True

    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(place.stat().st_size for place in self._folder.glob(_PLACES))

    def remove_unused(self, used: Set[Digest], days: float) -> tuple[int, int]:
        """Remove blobs other than these that were not stored again for this many days; returns their number and bytes.

        A blob that is stored again meanwhile stays: it is moved aside first, and put back if it became new.
        """
        count = size = 0
        for place in self._folder.glob(_PLACES):
            if f"sha256:{place.parent.name}{place.name}" in used or _age_s(place) < days * 86400:
                continue
            aside = self._folder / f"{_UNFINISHED}{uuid.uuid4().hex}"
            with writes(self._folder):
                place.rename(aside)
                if _age_s(aside) < days * 86400:
                    aside.replace(place)
                    continue
                count, size = count + 1, size + aside.stat().st_size
                aside.unlink()
        return count, size

    def _store(self, parts: Iterable[bytes]) -> tuple[Digest, int]:
        """Write the chunks under the digest that they turn out to have; returns it and the size in bytes."""
        seen, size = hashlib.sha256(), 0
        with writes(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            _sweep(self._folder)
            handle, name = tempfile.mkstemp(prefix=_UNFINISHED, dir=self._folder)
            partial = Path(name)
            try:
                with os.fdopen(handle, "wb") as target:
                    for chunk in parts:
                        seen.update(chunk)
                        size += len(chunk)
                        target.write(chunk)
                    _flush(target)
                digest = f"sha256:{seen.hexdigest()}"
                place = self._place(digest)
                partial.chmod(0o444)
                place.parent.mkdir(exist_ok=True)
                partial.replace(place)  # where it was there already, the fresh copy heals a damaged one
                _flush_folder(place.parent)
                _flush_folder(self._folder)
            finally:
                partial.unlink(missing_ok=True)
        return digest, size

    def _place(self, digest: Digest) -> Path:
        name = digest.removeprefix("sha256:")
        return self._folder / name[:2] / name[2:]

    def _where(self, digest: Digest) -> str:
        return str(self._place(digest))

    @contextmanager
    def _source(self, digest: Digest) -> Iterator[BinaryIO]:
        if not self.has(digest):
            raise NotFound(f"no blob {digest} in {self._folder}")
        with opened(self._place(digest)) as source:
            yield source


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file for reading; its faults as our errors."""
    try:
        source = path.open("rb")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(f"no file {path}") from error
    except OSError as error:
        raise Unavailable(f"the file {path} can't be read: {error.strerror}") from error
    with source:
        yield source


def chunks(source: BinaryIO, where: str) -> Iterator[bytes]:
    """What is in it, a bit at a time; ``where`` names it in words."""
    try:
        while chunk := source.read(_CHUNK):
            yield chunk
    except OSError as error:
        raise Unavailable(f"the file {where} can't be read: {error.strerror}") from error


@contextmanager
def writes(folder: Path) -> Iterator[None]:
    """Turn what a disk can answer to a write into one line that says what to do."""
    try:
        yield
    except OSError as error:
        what = {
            errno.ENOSPC: "the disk is full: free some space",
            errno.EDQUOT: "the quota of this user is used up: free some space",
            errno.EROFS: "the file system is read-only: choose another folder",
            errno.EACCES: "this user may not write there: change the folder's rights or choose another",
            errno.EPERM: "this user may not write there: change the folder's rights or choose another",
            errno.ENOTDIR: "a part of its path is a file: choose another folder",
        }.get(error.errno or 0, f"{error.strerror or error}: check the disk")
        kind = StorageFull if error.errno in (errno.ENOSPC, errno.EDQUOT) else Unavailable
        raise kind(f"can't write to {folder}: {what}, and run this again; nothing half-written was kept") from error


def _flush(target: BinaryIO) -> None:
    target.flush()
    os.fsync(target.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _must_be_empty(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise Conflict(f"{folder} is not an empty folder: choose another")


def _take_place(partial: Path, folder: Path) -> None:
    try:
        partial.replace(folder)  # takes the place of an empty folder, and of nothing else
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise Conflict(f"{folder} is not an empty folder: choose another") from error
        raise


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _sweep(folder: Path) -> None:
    """Remove what a killed writer left long ago; a young one may still be at work."""
    for left in folder.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            if _age_s(left) > _STALE_S:
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
                else:
                    left.unlink()


_IN_MEMORY = 16 << 20
"""Bytes that are kept in memory before they are sent; what is larger waits in a temporary file."""


class ObjectBlobs(ContentBlobs):
    """``ports.Blobs`` in object storage."""

    def __init__(self, url: str) -> None:
        """Open the place that a URL names; nothing is read or written yet.

        Raises:
            InvalidInput: not a URL of a storage.
            Unavailable: the package for this storage is not installed.
        """
        import fsspec

        self._url = url.rstrip("/")
        if not re.match(r"[a-z0-9]+://[^/]", url) or url.startswith(("file:", "local:", "memory:")):
            raise InvalidInput(f"AUDITSVC_BLOBS_URL must be a URL like s3://bucket/place, not {url!r}")
        try:
            self._files, self._root = fsspec.url_to_fs(self._url, use_listings_cache=False, skip_instance_cache=True)
        except ImportError as error:
            raise Unavailable(f"{url} needs a package: pip install 'auditsvc[s3]' ({error})") from error
        except ValueError as error:
            raise InvalidInput(f"AUDITSVC_BLOBS_URL must be a URL like s3://bucket/place, not {url!r}") from error

    def has(self, digest: Digest) -> bool:
        """Whether the blob is there."""
        if not _DIGEST.fullmatch(digest):
            return False
        with self._reached():
            try:
                return bool(self._files.info(self._place(digest))["type"] == "file")
            except FileNotFoundError:
                return False

    def size(self) -> int:
        """Bytes of all blobs."""
        with self._reached():
            return int(self._files.du(self._root))

    def remove_unused(self, used: Set[Digest], days: float) -> tuple[int, int]:  # noqa: ARG002 - as the port says
        """Raises ``InvalidInput``: object storage does not tell when a blob was stored again."""
        raise InvalidInput(f"unused blobs are removed from a folder only, not from {self._url}")

    @contextmanager
    def _source(self, digest: Digest) -> Iterator[BinaryIO]:
        if not self.has(digest):
            raise NotFound(f"no blob {digest} in {self._url}")
        with self._reached():
            source = self._files.open(self._place(digest), "rb")
        try:
            yield cast(BinaryIO, _Reading(source, self._reached))
        finally:
            source.close()

    def _store(self, parts: Iterable[bytes]) -> tuple[Digest, int]:
        """Hash, then send; the same bytes are not sent twice unless what is there is damaged."""
        seen = hashlib.sha256()
        with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY) as waiting:
            for part in parts:
                seen.update(part)
                waiting.write(part)
            size, digest = waiting.tell(), f"sha256:{seen.hexdigest()}"
            waiting.seek(0)
            with self._reached(), self._files.open(self._place(digest), "wb") as target:
                while part := waiting.read(_IN_MEMORY):
                    target.write(part)
        return digest, size

    def _place(self, digest: Digest) -> str:
        name = digest.removeprefix("sha256:")
        return f"{self._root}/{name[:2]}/{name[2:]}"

    def _where(self, digest: Digest) -> str:
        return f"{self._url}/{digest.removeprefix('sha256:')[:2]}/{digest.removeprefix('sha256:')[2:]}"

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """What a storage can answer, as our errors."""
        try:
            yield
        except _foreign() as error:
            words = str(error).split("\n")[0]
            raise Unavailable(f"the object storage {self._url} can't be read or written: {words}") from error


@dataclass(frozen=True)
class _Reading:
    """An object that is read; what the storage answers meanwhile becomes our error, what a reader does does not."""

    source: Any
    reached: Callable[[], AbstractContextManager[None]]

    def read(self, size: int = -1) -> bytes:
        with self.reached():
            return bytes(self.source.read(size))


def _foreign() -> tuple[Any, ...]:
    """The errors of the storage's library; botocore has some of its own."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return (OSError,)
    return (OSError, BotoCoreError, ClientError)
