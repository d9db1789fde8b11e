"""Content-addressed files in object storage, through fsspec: ``s3://bucket/place`` and whatever else fsspec knows.

An object appears when its upload is complete, never before; so a blob is there whole, or it is not there.  The bytes
are hashed before they are sent, and again when they are read.  Keys and endpoint come from the environment that the
storage's own library reads (``AWS_ACCESS_KEY_ID``, ``AWS_ENDPOINT_URL``, ...), never from our settings.

Limit: a storage that lets an object be overwritten lets whoever may write there damage blobs; that is noticed when
they are read, not prevented.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from auditsvc.adapters.blobs.files import ContentBlobs
from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.records import Digest

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
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
