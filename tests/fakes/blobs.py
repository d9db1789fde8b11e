"""Blobs in memory."""

from __future__ import annotations

from collections.abc import Sequence, Set
from pathlib import Path

from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.records import Digest, FileEntry, digest_of


class MemoryBlobs:
    """``ports.Blobs`` in a dictionary; ``checkout`` writes real files."""

    def __init__(self) -> None:
        self._blobs: dict[Digest, bytes] = {}

    def put(self, data: bytes) -> Digest:
        digest = digest_of(data)
        self._blobs[digest] = data
        return digest

    def put_file(self, path: Path) -> FileEntry:
        if not path.is_file():
            raise NotFound(f"no file {path}")
        data = path.read_bytes()
        return FileEntry(name=path.name, size=len(data), digest=self.put(data))

    def read(self, digest: Digest) -> bytes:
        if digest not in self._blobs:
            raise NotFound(f"no blob {digest}")
        return self._blobs[digest]

    def has(self, digest: Digest) -> bool:
        return digest in self._blobs

    def size(self) -> int:
        return sum(map(len, self._blobs.values()))

    def remove_unused(self, used: Set[Digest], days: float) -> tuple[int, int]:
        unused = [digest for digest in self._blobs if digest not in used]
        return len(unused), sum(len(self._blobs.pop(digest)) for digest in unused)

    def checkout(self, files: Sequence[FileEntry], folder: Path) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Conflict(f"{folder} is not an empty folder")
        outside = [file.name for file in files if ".." in Path(file.name).parts]
        if outside:
            raise InvalidInput(f"file names that leave their folder: {outside}")
        contents = {file.name: self.read(file.digest) for file in files}
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in contents.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
