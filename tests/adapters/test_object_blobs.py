"""Object storage: half an upload is no blob, damage is noticed, and what is out of reach says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditsvc.adapters.blobs import ObjectBlobs
from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.records import digest_of
from tests.adapters.object_storage import new_bucket, object_storage, storage_client


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with object_storage() as address:
        yield address


@pytest.fixture
def bucket(storage: str) -> str:
    return new_bucket()


def objects(bucket: str) -> list[str]:
    return list(storage_client().find(bucket.removeprefix("s3://")))


def test_an_object_is_named_by_its_content_and_found_from_elsewhere(bucket: str) -> None:
    digest = ObjectBlobs(bucket).put(b"weights")
    name = digest.removeprefix("sha256:")
    assert objects(bucket) == [f"{bucket.removeprefix('s3://')}/{name[:2]}/{name[2:]}"]
    assert ObjectBlobs(bucket).read(digest) == b"weights"


def test_a_large_file_comes_back_whole(bucket: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 90_000  # more than one part of an upload
    (tmp_path / "large.bin").write_bytes(data)
    blobs = ObjectBlobs(bucket)
    entry = blobs.put_file(tmp_path / "large.bin")
    assert (entry.size, entry.digest) == (len(data), digest_of(data))
    blobs.checkout([entry], tmp_path / "out")
    assert (tmp_path / "out" / "large.bin").read_bytes() == data


def test_damage_is_noticed_when_it_is_read_and_healed_by_storing_again(bucket: str, tmp_path: Path) -> None:
    blobs = ObjectBlobs(bucket)
    (tmp_path / "one").write_bytes(b"weights")
    entry = blobs.put_file(tmp_path / "one")
    storage_client().pipe_file(objects(bucket)[0], b"weightz")
    with pytest.raises(Unavailable, match="damaged"):
        blobs.read(entry.digest)
    with pytest.raises(Unavailable, match="damaged"):
        blobs.checkout([entry], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    blobs.put_file(tmp_path / "one")
    assert blobs.read(entry.digest) == b"weights"


def test_a_file_that_breaks_off_while_it_is_read_leaves_nothing(bucket: str) -> None:
    def parts() -> Iterator[bytes]:
        yield b"the first half"
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="went away"):
        ObjectBlobs(bucket)._store(parts())
    assert objects(bucket) == []


def test_a_bucket_or_an_object_that_is_not_there_is_told_apart(bucket: str) -> None:
    with pytest.raises(Unavailable, match="can't be read or written"):
        ObjectBlobs("s3://no-such-bucket/blobs").put(b"one")
    with pytest.raises(NotFound):
        ObjectBlobs(bucket).read(digest_of(b"never stored"))


@pytest.mark.parametrize("url", ["nonsense://x", "://", "/a/folder", "file:///a/folder"])
def test_a_url_of_no_storage_is_refused(url: str) -> None:
    with pytest.raises((InvalidInput, Unavailable), match="s3"):
        ObjectBlobs(url)


def test_a_name_that_is_no_digest_is_not_there(bucket: str) -> None:
    assert not ObjectBlobs(bucket).has("../other/bucket")
