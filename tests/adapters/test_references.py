"""Models in object storage are fetched from allowed places, if they are models, and from nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditsvc.adapters import object_references
from auditsvc.adapters.object_references import ObjectReferences, RemoteDatasets, local_path
from auditsvc.errors import Forbidden, InvalidInput, NotFound, Refused
from auditsvc.services.model_store import resolve_model
from tests.adapters.object_storage import new_bucket, object_storage, storage_client
from tests.roads import small
from tests.services.line import parent_in, ports_in

NAMES = ("model.safetensors", "architecture.json", "LICENSE")


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with object_storage() as address:
        yield address


@pytest.fixture
def place(storage: str, tmp_path: Path) -> str:
    """A model folder in a bucket of its own."""
    address = new_bucket().replace("/blobs", "/pruned/net")
    for file in parent_in(tmp_path / "parent").iterdir():
        storage_client().pipe_file(f"{address.removeprefix('s3://')}/{file.name}", file.read_bytes())
    return address


def fetched(place: str, allowed: str, folder: Path) -> set[str]:
    folder.mkdir(exist_ok=True)
    ObjectReferences((allowed,)).fetch(place, folder)
    return {file.name for file in folder.iterdir()}


def test_a_model_below_an_allowed_place_comes_whole(place: str, tmp_path: Path) -> None:
    assert fetched(place, place.rpartition("/")[0], tmp_path / "fetched") == set(NAMES)
    assert fetched(place, place, tmp_path / "again") == set(NAMES)
    for name in NAMES:
        assert (tmp_path / "fetched" / name).read_bytes() == (tmp_path / "parent" / name).read_bytes()


def test_no_other_place_is_read(place: str, tmp_path: Path) -> None:
    for allowed in (f"{place}x", "s3://elsewhere", place[: place.rindex("/") + 2]):
        with pytest.raises(Forbidden, match="AUDITSVC_ALLOWED_MODEL_URIS allows"):
            fetched(place, allowed, tmp_path)
    ctx = ports_in(tmp_path / "store")
    with pytest.raises(Forbidden, match="no place is allowed"), resolve_model(ctx, place):
        pass


@pytest.mark.parametrize("address", ["file:///etc", "s3://bucket/../other", "s3://bucket//x", "http://a/b", "s3://"])
def test_what_is_no_address_of_a_folder_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises((InvalidInput, Forbidden)):
        ObjectReferences(("s3://bucket",)).fetch(address, tmp_path)


@pytest.mark.parametrize("allowed", ["file:///", "/models", "https://models", "s3://", "memory://x"])
def test_an_operator_can_allow_object_storage_only(allowed: str) -> None:
    with pytest.raises(InvalidInput, match="AUDITSVC_ALLOWED_MODEL_URIS"):
        ObjectReferences((allowed,))


def test_a_folder_with_anything_else_in_it_is_refused_before_a_byte_is_read(place: str, tmp_path: Path) -> None:
    bucket = place.removeprefix("s3://")
    storage_client().pipe_file(f"{bucket}/payload.pkl", b"x")
    storage_client().pipe_file(f"{bucket}/deeper/model.safetensors", b"x")
    with pytest.raises(Refused) as caught:
        fetched(place, place, tmp_path / "fetched")
    assert [reason.split()[0] for reason in caught.value.reasons] == ["deeper", "payload.pkl"]
    assert list((tmp_path / "fetched").iterdir()) == []
    with pytest.raises(NotFound):
        fetched(f"{place}-none", place.rpartition("/")[0], tmp_path)


def test_files_that_are_too_large_are_refused(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(object_references.LIMITS, "LICENSE", 3)
    with pytest.raises(Refused, match="is not a model folder") as caught:
        fetched(place, place, tmp_path / "fetched")
    assert "at most 3 are admitted" in caught.value.reasons[0]


@pytest.mark.parametrize("make", [small.image_folder, small.parquet_table], ids=["folder", "file"])
def test_a_data_set_is_read_from_its_address(
    make: Callable[..., object], place: str, tmp_path: Path, monkeypatch
) -> None:
    """Copied once, and again after it was changed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pixels = small.pictures(8, 1)
    make(tmp_path / "photos.parquet", pixels)
    address = f"{place}/photos.parquet"
    storage_client().put(str(tmp_path / "photos.parquet"), address, recursive=True)
    here, there = RemoteDatasets().open(tmp_path / "photos.parquet"), RemoteDatasets().open(Path(address))
    assert (there.ref.digest, there.ref.source, there.ref.name) == (here.ref.digest, address, here.ref.name)
    copy = local_path(Path(address))
    assert copy == local_path(Path(address)) and copy.is_relative_to(tmp_path / "cache")
    name = address if copy.is_file() else f"{address}/{small.CLASSES[0]}/0000.png"
    storage_client().pipe_file(name, b"other")
    assert local_path(Path(address)) != copy
    with pytest.raises(NotFound, match="nothing at s3://"):
        local_path(Path(f"{place}/absent"))
