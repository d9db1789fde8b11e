"""What every store of blobs keeps: the digest is the name, and a folder appears whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.ports import Blobs
from auditsvc.records import FileEntry, digest_of
from tests.contracts.sample import a_digest, a_file


def test_bytes_read_back_under_their_digest(blobs: Blobs) -> None:
    for data in (b"", b"hello", bytes(range(256)) * 8192):
        assert blobs.put(data) == digest_of(data)
        assert blobs.put(data) == digest_of(data)
        assert blobs.has(digest_of(data))
        assert blobs.read(digest_of(data)) == data


def test_a_file_is_stored_under_its_own_name(blobs: Blobs, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc")
    entry = blobs.put_file(tmp_path / "a.bin")
    assert entry == FileEntry(name="a.bin", size=3, digest=digest_of(b"abc"))
    assert blobs.read(entry.digest) == b"abc"


@pytest.mark.parametrize("digest", [a_digest(0), "sha256:../../etc/passwd", "", "nonsense"])
def test_what_is_not_there_is_not_found(blobs: Blobs, digest: str) -> None:
    assert not blobs.has(digest)
    with pytest.raises(NotFound):
        blobs.read(digest)


def test_a_file_that_is_not_there_is_not_found(blobs: Blobs, tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(NotFound):
            blobs.put_file(path)


def test_a_folder_is_written_with_its_folders_inside(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(b"one")
    blobs.put(b"two")
    (tmp_path / "empty").mkdir()
    for target in (tmp_path / "empty", tmp_path / "new" / "deeper"):
        blobs.checkout([a_file(b"one", "one.bin"), a_file(b"two", "sub/two.bin")], target)
        assert _contents(target) == {"one.bin": b"one", "sub/two.bin": b"two"}


def test_a_folder_with_a_missing_blob_does_not_appear(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(b"one")
    with pytest.raises(NotFound):
        blobs.checkout([a_file(b"one", "one.bin"), a_file(b"never stored")], tmp_path / "out" / "folder")
    assert _contents(tmp_path / "out") == {}
    assert not (tmp_path / "out" / "folder").exists()


def test_a_folder_that_holds_something_is_left_alone(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(b"one")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_bytes(b"precious")
    for target in (tmp_path / "full", tmp_path / "full" / "mine"):
        with pytest.raises(Conflict):
            blobs.checkout([a_file(b"one")], target)
    assert _contents(tmp_path / "full") == {"mine": b"precious"}


def test_a_name_that_leaves_the_folder_is_refused(blobs: Blobs, tmp_path: Path) -> None:
    blobs.put(b"one")
    with pytest.raises(InvalidInput):
        blobs.checkout([a_file(b"one", "../outside")], tmp_path / "out" / "folder")
    assert _contents(tmp_path / "out") == {}


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
