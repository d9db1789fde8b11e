"""The files of a release folder and their OMS v1.0 statement, read defensively.

Reading uses directory descriptors and follows no link; special files are never opened, so a pipe cannot block the
verifier.  Hidden files and ``.git`` are files like any other.  A name that leaves the folder, or that two file systems
read as the same, is rejected before any file is opened.

The OMS statement lists each file with its SHA-256.  Its subject digest covers the digests only, not the names, so it is
never used alone to identify the files.

Reference: OpenSSF (2026), "Model Signing Specification" v1.0.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditsvc.errors import Unavailable
from auditsvc.provenance.formats.strict_json import Fault, fields_of, list_of, text_of
from auditsvc.records import FileEntry

MAX_DEPTH = 32


def shown(name: str) -> str:
    """A file name that is safe to print."""
    return name.encode("utf-8", "backslashreplace").decode()[:200]


def name_fault(name: str) -> Fault | None:
    """Why this can't be the name of a file in a release, if so."""
    parts = name.split("/")
    if (
        any(part in ("", ".", "..") for part in parts)
        or "\\" in name
        or any(ord(c) < 32 or ord(c) == 127 for c in name)
    ):
        return Fault("NAME_BAD", f"{shown(name)!r} is not a plain relative path")
    if len(name) > 1024 or len(parts) > MAX_DEPTH:
        return Fault("NAME_BAD", f"{shown(name)[:80]!r}... is too long")
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return Fault("NAME_BAD", f"{shown(name)!r} is not UTF-8")
    if unicodedata.normalize("NFC", name) != name:
        return Fault("NAME_BAD", f"{shown(name)!r} is not in Unicode normal form C")
    return None


def collisions(names: Iterable[str]) -> list[Fault]:
    """Names that some file systems or readers can't distinguish."""
    seen: dict[str, str] = {}
    faults = []
    for name in names:
        key = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
        other = seen.setdefault(key, name)
        if other != name:
            faults.append(Fault("NAME_COLLISION", f"{shown(name)} and {shown(other)} are one name to some readers"))
    return faults


MAX_FILES = 100_000
_CHUNK = 1 << 20
_ALL_TOGETHER = 16
_WORTH_A_THREAD = 8 << 20
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Folder:
    """The content of a folder: every file with size and digest, in code point order, and what must not be in it."""

    files: tuple[FileEntry, ...]
    faults: tuple[Fault, ...]


Keep = Callable[[str, bytes], None]


def read_folder(folder: Path, keep: Keep | None = None, limit: int | None = None) -> Folder:
    """Walk a folder and hash every file; what must not be there is listed, not raised.

    With ``keep``, each file is read into memory once, hashed there, and passed to ``keep``: what is used later
    is then exactly what was hashed, whatever happens to the folder meanwhile.  Files over ``limit`` bytes
    are a fault and not read, nor is anything where all together have more than 16 times that.

    Raises:
        Unavailable: the disk can't be read.
    """
    faults: list[Fault] = []
    try:
        root = os.open(folder, _DIRECTORY)
    except OSError as error:
        return Folder((), (_root_fault(folder, error),))
    try:
        sizes = dict(_walk(root, "", 0, faults))
        faults += collisions(sizes)
        large = {name for name, size in sizes.items() if limit is not None and size > limit}
        faults += (Fault("TOO_LARGE", f"{shown(name)} has {sizes.pop(name)} bytes") for name in sorted(large))
        if limit is not None and sum(sizes.values()) > _ALL_TOGETHER * limit:
            faults.append(
                Fault("TOO_LARGE", f"{sum(sizes.values())} bytes in all; at most {_ALL_TOGETHER * limit} are read")
            )
            sizes.clear()
        names = sorted(name for name in sizes if _speakable(name, faults))
        files = tuple(_hashed(root, names, sum(sizes.values()), faults, keep))
    except OSError as error:
        raise Unavailable(f"cannot read {folder}: {error.strerror}") from error
    finally:
        os.close(root)
    return Folder(files, tuple(faults))


def _root_fault(folder: Path, error: OSError) -> Fault:
    if folder.is_symlink():
        return Fault("SYMLINK", f"{folder.name} is itself a symbolic link")
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Fault("MISSING", f"there is no folder {folder.name}")
    raise Unavailable(f"cannot read {folder}: {error.strerror}") from error


def _walk(directory: int, prefix: str, depth: int, faults: list[Fault]) -> Iterator[tuple[str, int]]:
    """Every regular file below, as (name, size); faults are added for everything else."""
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    if depth and not found:
        faults.append(Fault("EMPTY_DIR", f"{prefix} is empty"))
    if depth >= MAX_DEPTH or len(found) > MAX_FILES:
        faults.append(Fault("TOO_LARGE", f"{prefix or 'the folder'} is too deep or holds too many files"))
        return
    for entry in found:
        name = prefix + entry.name
        state = os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(state.st_mode):
            with _opened(entry.name, _DIRECTORY, directory) as below:
                yield from _walk(below, f"{name}/", depth + 1, faults)
        elif fault := _not_plain(name, state):
            faults.append(fault)
        else:
            yield name, state.st_size


def _not_plain(name: str, state: os.stat_result) -> Fault | None:
    if stat.S_ISLNK(state.st_mode):
        return Fault("SYMLINK", f"{shown(name)} is a symbolic link")
    if not stat.S_ISREG(state.st_mode):
        return Fault("SPECIAL_FILE", f"{shown(name)} is not a regular file")
    if state.st_nlink != 1:
        return Fault(
            "HARDLINK", f"{shown(name)} has {state.st_nlink} hard links; it can be written to from another path"
        )
    return None


@contextmanager
def _opened(name: str, flags: int, directory: int) -> Iterator[int]:
    descriptor = os.open(name, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _speakable(name: str, faults: list[Fault]) -> bool:
    fault = name_fault(name)
    if fault:
        faults.append(fault)
    return fault is None


def _hashed(root: int, names: Sequence[str], total: int, faults: list[Fault], keep: Keep | None) -> Iterator[FileEntry]:
    """Hash all files; with several and enough bytes, on all cores (hashing lets other threads run)."""

    def one(name: str) -> FileEntry | Fault:
        return _hash_one(root, name, keep)

    if len(names) > 1 and total > _WORTH_A_THREAD:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            results = list(pool.map(one, names))
    else:
        results = [one(name) for name in names]
    for result in results:
        if isinstance(result, Fault):
            faults.append(result)
        else:
            yield result


def _hash_one(root: int, name: str, keep: Keep | None) -> FileEntry | Fault:
    try:
        with _beneath(root, name) as descriptor:
            state = os.fstat(descriptor)
            if fault := _not_plain(name, state):
                return fault
            if keep is None:
                size, digest = _stream(descriptor)
            else:
                data = _model_subject(descriptor)
                size, digest = len(data), hashlib.sha256(data).hexdigest()
                keep(name, data)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            return Fault("SYMLINK", f"{shown(name)} became a symbolic link while it was read")
        if error.errno in (errno.ENOENT, errno.ENXIO):
            return Fault("MISSING", f"{shown(name)} went away while it was read")
        raise
    return FileEntry(name=name, size=size, digest=f"sha256:{digest}")


@contextmanager
def _beneath(root: int, name: str) -> Iterator[int]:
    """Open a file below ``root``, following no link in any part of its path."""
    *folders, last = name.split("/")
    directory = os.dup(root)
    try:
        for folder in folders:
            below = os.open(folder, _DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        with _opened(last, _FILE, directory) as descriptor:
            yield descriptor
    finally:
        os.close(directory)


def _stream(descriptor: int) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    buffer = bytearray(_CHUNK)
    view = memoryview(buffer)
    while got := os.readv(descriptor, [buffer]):
        digest.update(view[:got])
        size += got
    return size, digest.hexdigest()


def _model_subject(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def root_digest(digests: Sequence[str]) -> str:
    """The OMS root: hexadecimal SHA-256 over the raw digests, in the order listed."""
    return hashlib.sha256(b"".join(bytes.fromhex(digest) for digest in digests)).hexdigest()


def differences(listed: Sequence[FileEntry] | dict[str, str], found: Sequence[FileEntry]) -> tuple[Fault, ...]:
    """The differences between a list and a folder: extra, missing and changed files."""
    wanted = listed if isinstance(listed, dict) else {file.name: file.digest for file in listed}
    there = {file.name: file.digest for file in found}
    faults = [Fault("MISSING", f"{shown(name)} is not there") for name in sorted(wanted.keys() - there.keys())]
    faults += [Fault("EXTRA_FILES", _extra(name)) for name in sorted(there.keys() - wanted.keys())]
    changed = sorted(name for name in wanted.keys() & there.keys() if wanted[name] != there[name])
    faults += [Fault("DIGEST_MISMATCH", f"{shown(name)} has other bytes than were signed") for name in changed]
    return tuple(faults)


def _extra(name: str) -> str:
    if name.rpartition("/")[2] == "registered_model_meta":
        message = "MLflow adds it to what it downloads by models:/; remove it, or verify the folder release/ alone"
        return f"{shown(name)} was never signed; {message}"
    return f"{shown(name)} was never signed"


OMS_TYPE = "https://model_signing/signature/v1.0"

_GIT_NAMES = (".git", ".gitignore", ".gitattributes", ".github")
_HEX = re.compile(r"[0-9a-f]{64}\Z")


def strip_prefix(digest: str) -> str:
    """The hexadecimal part of ``sha256:...``."""
    return digest.removeprefix("sha256:")


def oms_predicate(files: Sequence[FileEntry]) -> dict[str, Any]:
    """The predicate over these files, in code point order."""
    ordered = sorted(files, key=lambda file: file.name)
    return {
        "resources": [
            {"name": file.name, "algorithm": "sha256", "digest": strip_prefix(file.digest)} for file in ordered
        ],
        "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
    }


def oms_root(files: Sequence[FileEntry]) -> str:
    """The subject digest over these files."""
    return root_digest([strip_prefix(file.digest) for file in sorted(files, key=lambda file: file.name)])


def resources_of(subject: Sequence[tuple[str, str]], predicate: Any, own: Sequence[str] = ()) -> dict[str, str]:
    """The files that an OMS statement signs: name to digest (``sha256:...``).

    Both orders are read: by code point, as the specification says, and by path part, as
    ``model-signing`` 1.1.1 writes; the root is recomputed in the order listed.  ``own`` names what the
    signature may leave out: its own file, where that is in the folder.

    Raises:
        Fault: ``SUBJECT``, ``SERIALIZATION``, ``IGNORE_PATHS``, ``EMPTY_MANIFEST``, ``DIGEST_FORM``, ``NAME_BAD``,
            ``DUP_NAME``, ``NOT_SORTED``, ``ROOT_DIGEST``.
    """
    if len(subject) != 1:
        raise Fault("SUBJECT", f"an OMS statement has one subject, not {len(subject)}")
    fields_of(predicate, "the OMS predicate", "SERIALIZATION", {"resources", "serialization"})
    _check_serialization(predicate["serialization"], own)
    resources = list_of(predicate["resources"], "resources", "SERIALIZATION")
    if not resources:
        raise Fault("EMPTY_MANIFEST", "no file is signed")
    pairs = [_resource(resource) for resource in resources]
    names = [name for name, _ in pairs]
    if len(set(names)) != len(names):
        raise Fault("DUP_NAME", "a file is listed twice")
    if names != sorted(names) and names != sorted(names, key=lambda name: name.split("/")):
        raise Fault("NOT_SORTED", "the files are not in order")
    if root_digest([digest for _, digest in pairs]) != subject[0][1]:
        raise Fault("ROOT_DIGEST", "the subject's digest does not follow from the files listed")
    return {name: f"sha256:{digest}" for name, digest in pairs}


def _check_serialization(value: Any, own: Sequence[str]) -> None:
    optional = frozenset({"allow_symlinks", "ignore_paths"})
    fields_of(value, "serialization", "SERIALIZATION", {"method", "hash_type"}, optional)
    if value["method"] != "files" or value["hash_type"] != "sha256" or value.get("allow_symlinks", False) is not False:
        raise Fault("SERIALIZATION", "only whole files, SHA-256 and no symbolic links are accepted")
    hidden = list_of(value.get("ignore_paths", []), "ignore_paths", "IGNORE_PATHS")
    wrong = sorted(str(path)[:80] for path in hidden if path not in (*_GIT_NAMES, *own))
    if wrong:
        raise Fault("IGNORE_PATHS", f"the signature leaves out {', '.join(wrong)}")


def _resource(value: Any) -> tuple[str, str]:
    fields_of(value, "a resource", "SERIALIZATION", {"name", "algorithm", "digest"})
    name = text_of(value["name"], "a resource's name", "NAME_BAD")
    digest = text_of(value["digest"], "a digest", "DIGEST_FORM")
    if value["algorithm"] != "sha256" or not _HEX.match(digest):
        raise Fault("DIGEST_FORM", f"{shown(name)}: not 64 lower-case hexadecimal digits of SHA-256")
    if fault := name_fault(name):
        raise fault
    return name, digest
