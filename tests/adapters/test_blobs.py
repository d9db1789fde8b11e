"""Blobs in a folder: killed writers, damaged files, full disks, folders of others."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auditsvc.adapters import blobs as module
from auditsvc.adapters.blobs import FileBlobs
from auditsvc.errors import Unavailable
from auditsvc.records import digest_of
from tests.adapters.killing import kill_during
from tests.adapters.unprivileged import read_only
from tests.contracts.sample import a_file

STORE_FOR_EVER = """
from itertools import count
from pathlib import Path
from auditsvc.adapters.blobs import FileBlobs
blobs, folder = FileBlobs(Path("{folder}/blobs")), Path("{folder}")
big = folder / "big"
print("ready")
for number in count():
    big.write_bytes(b"%d" % number * 1_000_000)
    entry = blobs.put_file(big)
    print(entry.digest)
    blobs.checkout([entry, entry.model_copy(update={{"name": "again/big"}})], folder / "out" / str(number))
"""


@pytest.mark.parametrize("seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 20))])
def test_a_killed_writer_leaves_whole_blobs_and_folders_only(tmp_path: Path, seed: int) -> None:
    said = kill_during(STORE_FOR_EVER.format(folder=tmp_path), within_s=0.3, seed=seed).split()
    blobs = FileBlobs(tmp_path / "blobs")
    stored = list((tmp_path / "blobs").glob("??/*"))
    assert {digest_of(path.read_bytes()) for path in stored} == {
        f"sha256:{path.parent.name}{path.name}" for path in stored
    }
    assert all(blobs.has(digest) for digest in said)
    for folder in (tmp_path / "out").glob("[0-9]*"):
        assert (folder / "big").read_bytes() == (folder / "again" / "big").read_bytes()
        assert blobs.has(digest_of((folder / "big").read_bytes()))


def test_a_reader_never_meets_half_a_blob(tmp_path: Path) -> None:
    """A second thread looks all the while; in place, 30 MB would be seen growing."""
    blobs, seen, done = FileBlobs(tmp_path / "blobs"), set[int](), threading.Event()

    def look() -> None:
        while not done.is_set():
            seen.update(path.stat().st_size for path in (tmp_path / "blobs").glob("??/*"))

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        for number in range(4):
            blobs.put(bytes([number]) * 30_000_000)
        done.set()
        looking.result()
    assert seen <= {30_000_000}


def test_what_a_killed_writer_left_long_ago_is_removed(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    blobs.put(b"one")
    old, young = tmp_path / "blobs" / ".unfinished-old", tmp_path / "blobs" / ".unfinished-young"
    for left in (old, young):
        left.write_bytes(b"half")
    os.utime(old, (0, 0))
    blobs.put(b"two")
    assert (old.exists(), young.exists()) == (False, True)


def test_a_blob_lies_under_its_digest_for_reading_only(tmp_path: Path) -> None:
    FileBlobs(tmp_path).put(b"hello")
    place = tmp_path / "2c" / "f24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert place.read_bytes() == b"hello"
    assert stat.S_IMODE(place.stat().st_mode) == 0o444


@pytest.mark.parametrize("damage", [b"", b"jello", b"hello!"])
def test_a_damaged_blob_is_named_and_never_given_out(tmp_path: Path, damage: bytes) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    digest = blobs.put(b"hello")
    place = next((tmp_path / "blobs").glob("2c/*"))
    place.chmod(0o644)
    place.write_bytes(damage)
    with pytest.raises(Unavailable, match=f"{place} is damaged"):
        blobs.read(digest)
    with pytest.raises(Unavailable, match=f"{place} is damaged"):
        blobs.checkout([a_file(b"hello")], tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs"]


def test_storing_a_file_again_heals_a_damaged_blob(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    blobs = FileBlobs(tmp_path / "blobs")
    digest = blobs.put_file(tmp_path / "file").digest
    place = next((tmp_path / "blobs").glob("2c/*"))
    place.chmod(0o644)
    place.write_bytes(b"jello")
    blobs.put_file(tmp_path / "file")
    assert blobs.read(digest) == b"hello"


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    blobs.put(b"hello")
    before = _files(tmp_path)

    def full(_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(module, "_flush", full)
        for write in (lambda: blobs.put(b"more"), lambda: blobs.checkout([a_file(b"hello")], tmp_path / "out")):
            with pytest.raises(Unavailable, match="the disk is full: free some space"):
                write()
    assert _files(tmp_path) == before
    assert not (tmp_path / "out").exists()


def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    blobs = FileBlobs(tmp_path / "blobs")
    digest = blobs.put(b"hello")
    with read_only(tmp_path):
        assert blobs.read(digest) == b"hello"
        with pytest.raises(Unavailable, match=r"can't write to .*blobs: this user may not write there"):
            blobs.put(b"more")
        with pytest.raises(Unavailable, match=r"can't write to .*out: this user may not write there"):
            blobs.checkout([a_file(b"hello")], tmp_path / "out")
        with pytest.raises(Unavailable, match="this user may not write there"):
            FileBlobs(tmp_path / "new").put(b"hello")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def aged(folder: Path, days: float) -> FileBlobs:
    """A store with the blobs ``a`` and ``b``, last stored so many days ago."""
    blobs = FileBlobs(folder)
    for data in (b"a", b"b"):
        blobs.put(data)
    for place in folder.glob("??/*"):
        place.chmod(0o644)
        os.utime(place, (time.time() - days * 86400,) * 2)
    return blobs


def test_unused_blobs_are_removed_once_they_are_old(tmp_path: Path) -> None:
    blobs = aged(tmp_path, 10)
    assert blobs.remove_unused({digest_of(b"a")}, 11) == (0, 0)
    assert blobs.size() == 2
    assert blobs.remove_unused({digest_of(b"a")}, 9) == (1, 1)
    assert (blobs.has(digest_of(b"a")), blobs.has(digest_of(b"b")), blobs.size()) == (True, False, 1)


def test_a_blob_that_is_stored_again_is_new_also_in_the_moment_of_its_removal(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    blobs = aged(tmp_path, 10)
    blobs.put(b"a")
    rename = Path.rename

    def stored_meanwhile(place: Path, target: Path) -> Path:
        blobs.put(b"b")
        return rename(place, target)

    monkeypatch.setattr(Path, "rename", stored_meanwhile)
    assert blobs.remove_unused(frozenset(), 9) == (0, 0)
    assert (blobs.read(digest_of(b"a")), blobs.read(digest_of(b"b"))) == (b"a", b"b")
    assert not [*tmp_path.glob(".unfinished-*")]
