"""Models that lie in object storage, fetched by their address: only from places that the operator allowed.

An address in a request makes this service read from there with its own rights.  So no place is allowed unless the
operator named it, files of this machine never are, and a folder is taken only if every file in it belongs to a model
and is not larger than such a file may be; each is counted again while it is read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from auditsvc.errors import Forbidden, InvalidInput, NotFound, Refused, Unavailable
from auditsvc.importing import LIMITS

PART = 2**20
_ADDRESS = re.compile(r"[a-z0-9]+://[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._=+@-]+)*/?")
_HERE = ("file:", "local:", "memory:", "http:", "https:", "ftp:", "sftp:", "ssh:")


class ObjectReferences:
    """``ports.References`` through fsspec."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        """``allowed`` are prefixes such as ``s3://models/pruned``; only objects under one of them are fetched.

        Raises:
            InvalidInput: an address that is none of an object storage.
        """
        for one in allowed:
            if not _ADDRESS.fullmatch(one) or one.startswith(_HERE):
                raise InvalidInput(f"AUDITSVC_ALLOWED_MODEL_URIS holds {one!r}; places are named as s3://bucket/place")
        self._allowed = tuple(one.rstrip("/") for one in allowed)

    def fetch(self, address: str, folder: Path) -> None:
        """The files of a model folder; see ``ports.References.fetch``."""
        place = address.rstrip("/")
        parts = place.split("://")[-1].split("/")
        if not _ADDRESS.fullmatch(address) or any(part in ("", ".", "..") for part in parts):
            raise InvalidInput(f"{address!r} is no address of a folder in object storage, as s3://bucket/place/model")
        if not any(place == one or place.startswith(one + "/") for one in self._allowed):
            allowed = ", ".join(self._allowed) or "none"
            raise Forbidden(f"{address} may not be fetched; AUDITSVC_ALLOWED_MODEL_URIS allows: {allowed}")
        storage, root = _opened(place)
        try:
            found = storage.ls(root, detail=True)
        except FileNotFoundError as error:
            raise NotFound(f"there is nothing at {address}") from error
        except _foreign() as error:
            raise Unavailable(f"{address} can't be read: {str(error).splitlines()[0]}") from error
        files = {str(one["name"]).rstrip("/").rpartition("/")[2]: one for one in found}
        reasons = [reason for name, one in sorted(files.items()) for reason in _faults(name, one)]
        if reasons or not files:
            raise Refused(f"{address} is not a model folder", reasons or ["it is empty"])
        for name, one in files.items():
            _copied(storage, str(one["name"]), folder / name, LIMITS[name])


def _faults(name: str, one: dict[str, Any]) -> list[str]:
    limit = LIMITS.get(name)
    if one.get("type") != "file" or limit is None:
        return [f"{name} is not a file of a model folder; admitted are {', '.join(LIMITS)}"]
    return (
        [f"{name} has {one['size']} bytes; at most {limit} are admitted"] if int(one.get("size") or 0) > limit else []
    )


def _copied(storage: Any, source: str, target: Path, limit: int) -> None:
    """One file, a part at a time; what turns out to be larger than it said is given up."""
    seen = 0
    try:
        with storage.open(source, "rb") as stream, target.open("wb") as out:
            while part := stream.read(PART):
                seen += len(part)
                if seen > limit:
                    raise Refused(f"{target.name} has more than {limit} bytes; that many are admitted")
                out.write(part)
    except _foreign() as error:
        raise Unavailable(f"{source} can't be read: {str(error).splitlines()[0]}") from error


def _opened(place: str) -> tuple[Any, str]:
    import fsspec

    try:
        storage, root = fsspec.url_to_fs(place, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        raise Unavailable(f"{place} needs a package: pip install 'auditsvc[s3]' ({error})") from error
    except ValueError as error:
        raise InvalidInput(f"{place} is no object storage that is known here") from error
    return storage, str(root)


def _foreign() -> tuple[Any, ...]:
    """The errors of the storage's library; botocore has some of its own."""
    try:
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return (OSError,)
    return (OSError, BotoCoreError, ClientError)
