"""Models and data sets in object storage, fetched by their address: models only from where the operator allowed.

An address in a request makes this service read from there with its own rights.  So no place is allowed unless the
operator named it, files of this machine never are, and a folder is taken only if every file in it belongs to a model
and is not larger than such a file may be; each is counted again while it is read.

Addresses of data sets are taken by the command line alone, which reads with the rights of its caller; a service has a
data folder.  A data set is copied once; the copy is named by its objects and their versions.
"""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from auditsvc.datasets import Dataset
from auditsvc.datasets.image_dataset import ImageDataset
from auditsvc.datasets.readers import DatasetReaders
from auditsvc.errors import Forbidden, InvalidInput, NotFound, Refused, Unavailable
from auditsvc.importing import LIMITS
from auditsvc.records import canonical_json, digest_of

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
    """One file, a part at a time; a file larger than its stated size is refused."""
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


_DATA = re.compile(r"(s3|gs|gcs|az|abfs|abfss|oss):/+([^/].*)")
"""Also as ``pathlib`` writes it, with one slash."""


class RemoteDatasets(DatasetReaders):
    """Opens data sets of every installed format, here and in object storage; implements ``ports.Datasets``."""

    def open(self, path: Path) -> Dataset:
        """Read and check the data set at a path or address."""
        here = local_path(path)
        opened = super().open(here)
        if here == path or not isinstance(opened, ImageDataset):
            return opened
        return replace(opened, ref=opened.ref.model_copy(update={"source": _DATA.sub(r"\1://\2", str(path))}))


def local_path(path: Path) -> Path:
    """The path itself, or the copy of what is at this address, in the user's cache folder.

    Raises:
        NotFound: there is nothing.
        InvalidInput: objects whose names are no names of files.
        Unavailable: it can't be read.
    """
    parts = _DATA.fullmatch(str(path))
    if parts is None or path.exists():
        return path
    address = f"{parts[1]}://{parts[2]}"
    storage, root = _opened(address)
    try:
        found = storage.find(root, detail=True)
        objects = {name: one for name, one in found.items() if not name.endswith("/")}
        base = root.rpartition("/")[0] if list(objects) == [root] else root
        names = {name: name.removeprefix(f"{base}/") for name in objects}
        return _copy_of(storage, address, objects, names)
    except FileNotFoundError as error:
        raise NotFound(f"there is nothing at {address}") from error
    except _foreign() as error:
        raise Unavailable(f"{address} can't be read: {str(error).splitlines()[0]}") from error


def _copy_of(storage: Any, address: str, objects: dict[str, Any], names: dict[str, str]) -> Path:
    odd = [name for name in names.values() if Path(name).is_absolute() or {"", ".", ".."} & {*name.split("/")}]
    if odd:
        raise InvalidInput(f"{address} has objects whose names are no names of files: {', '.join(odd[:3])}")
    if not objects:
        raise NotFound(f"there is nothing at {address}")
    facts = [[names[name], one.get("size"), str(one.get("ETag") or one.get("mtime"))] for name, one in objects.items()]
    version = digest_of(canonical_json([address, sorted(facts)])).removeprefix("sha256:")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "auditsvc" / "data"
    folder, last = cache / version, address.rstrip("/").rpartition("/")[2]
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            whole = Path(scratch) / version
            for name, local in names.items():
                target = whole / local if list(names.values()) == [last] else whole / last / local
                target.parent.mkdir(parents=True, exist_ok=True)
                storage.get_file(name, str(target))
            if not folder.exists():
                whole.rename(folder)
    return folder / last
