"""Files are streamed in, hashed on the way, kept by content; what is odd is refused."""

from __future__ import annotations

import io
import json
import tarfile

import pytest
from starlette.testclient import TestClient

from auditsvc.records import digest_of
from auditsvc.web import middleware
from auditsvc.web.connection_limits import RateLimiter
from auditsvc.web.state import ProjectState
from tests.web.conftest import Clients

TAR = {"content-type": "application/x-tar"}
FILE = {"content-type": "application/octet-stream"}


@pytest.fixture
def submitter(clients: Clients) -> TestClient:
    return clients("submitter", "ann")


def _tar(*members: tuple[str, bytes], kind: bytes = tarfile.REGTYPE) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size, member.type = len(data), kind
            archive.addfile(member, io.BytesIO(data))
    return made.getvalue()


def test_a_file_is_kept_under_its_digest(submitter: TestClient, site: ProjectState) -> None:
    got = submitter.post("/v1/uploads?name=plan.pdf", content=(b"x" * 70_000 for _ in range(3)), headers=FILE)
    (file,) = got.json()["files"]
    assert (got.status_code, file) == (
        201,
        {"name": "plan.pdf", "size": 210_000, "digest": digest_of(b"x" * 210_000)},
    )
    assert site.ctx.blobs.read(file["digest"]) == b"x" * 210_000
    event = json.loads(site.ledger.leaf(site.ledger.size() - 1))
    assert (event["type"], event["actor"], event["object"]) == ("file.uploaded", "ann", file["digest"])
    assert list((site.folder / "uploads").iterdir()) == []


def test_a_model_folder_comes_as_a_tar(submitter: TestClient) -> None:
    content = _tar(("model.safetensors", b"weights"), ("./architecture.json", b"{}"))
    files = submitter.post("/v1/uploads", content=content, headers=TAR).json()["files"]
    assert {file["name"]: file["digest"] for file in files} == {
        "model.safetensors": digest_of(b"weights"),
        "architecture.json": digest_of(b"{}"),
    }


@pytest.mark.parametrize(
    "content",
    [
        b"no tar" * 100,
        _tar(),
        _tar(("a/b", b"x")),
        _tar(("../b", b"x")),
        _tar(("/etc/passwd", b"x")),
        _tar(("link", b""), kind=tarfile.SYMTYPE),
        _tar(("pipe", b""), kind=tarfile.FIFOTYPE),
        _tar(("empty", b"")),
        _tar(*((f"f{number}", b"x") for number in range(102))),
    ],
    ids=["noise", "empty", "folder", "up", "root", "link", "pipe", "empty file", "many"],
)
def test_what_is_no_model_folder_is_refused_and_nothing_is_left(
    submitter: TestClient, site: ProjectState, content: bytes
) -> None:
    got = submitter.post("/v1/uploads", content=content, headers=TAR)
    assert (got.status_code, got.json()["code"]) == (422, "invalid-input")
    assert list((site.folder / "uploads").iterdir()) == []


@pytest.mark.parametrize("name", ["", "?name=", "?name=..", "?name=a/b", "?name=%00"])
def test_a_file_needs_a_name_that_is_one(submitter: TestClient, name: str) -> None:
    assert submitter.post(f"/v1/uploads{name}", content=b"x", headers=FILE).status_code == 422


def test_more_than_the_limit_is_cut_off(
    submitter: TestClient, site: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(middleware.LARGE_BODIES, "/v1/uploads", 100_000)
    got = submitter.post("/v1/uploads?name=x", content=(b"x" * 50_000 for _ in range(3)), headers=FILE)
    assert (got.status_code, got.json()["code"]) == (413, "too-large")
    assert list((site.folder / "uploads").iterdir()) == []


def test_a_caller_has_a_quota_for_a_day_and_nothing_of_the_rest_is_kept(
    submitter: TestClient, clients: Clients, site: ProjectState
) -> None:
    site.uploads = RateLimiter(1.0, lambda: 0.0, burst_s=1000, limit="1 kB of uploads in a day")
    sizes = [submitter.post("/v1/uploads?name=a", content=b"x" * size, headers=FILE) for size in (900, 100, 1)]
    assert [got.status_code for got in sizes] == [201, 201, 429]
    assert "1 kB of uploads in a day" in sizes[2].json()["detail"]
    assert clients("submitter", "bob").post("/v1/uploads?name=a", content=b"y", headers=FILE).status_code == 201
    assert [*(site.folder / "uploads").iterdir()] == []


def test_a_project_has_a_quota(submitter: TestClient, site: ProjectState) -> None:
    site.max_blob_bytes = 1000
    assert submitter.post("/v1/uploads?name=a", content=b"x" * 1000, headers=FILE).status_code == 201
    full = submitter.post("/v1/uploads?name=a", content=b"y", headers=FILE)
    assert (full.status_code, full.json()["code"]) == (507, "storage-full")
    assert "AUDITSVC_BLOBS_GB" in full.json()["detail"]
