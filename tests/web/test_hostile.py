"""What a stranger sends to stop the service, to fill its disk, or to be taken for somebody else."""

from __future__ import annotations

import errno
import io
import os
import socket
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from starlette.testclient import TestClient

from auditsvc.errors import InvalidInput, StorageFull
from auditsvc.records import matches
from auditsvc.records.architecture import ArchitectureCard
from auditsvc.web import connection_limits, middleware, state
from auditsvc.web.state import ProjectState
from auditsvc.web.v1 import uploads
from tests.web.conftest import Clients

TAR = {"content-type": "application/x-tar"}
FILE = {"content-type": "application/octet-stream"}
CHUNKED = b"POST /v1/verify HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        yield connection


def answer_of(connection: socket.socket) -> bytes:
    """Everything until the service closes the connection."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize(
    ("start", "part"),
    [
        (b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: ", b"x" * 65536),
        (b"GET /healthz HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
        (b"GET /", b"x" * 65536),
        (CHUNKED + b"1;", b"x" * 65536),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
    ],
    ids=["one header", "many headers", "target", "chunk extension", "trailers"],
)
def test_a_head_without_end_is_cut_off(url: str, start: bytes, part: bytes) -> None:
    sent = 0
    with connected(url) as connection:
        connection.sendall(start)
        try:
            while sent < 64 << 20:
                connection.sendall(part)
                sent += len(part)
        except (ConnectionResetError, BrokenPipeError):
            pass
        assert sent < 32 << 20
    with connected(url) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        assert b"200 OK" in answer_of(connection)


def test_a_head_over_the_limit_is_a_problem_even_where_it_comes_at_once(url: str) -> None:
    limit = connection_limits.HEAD_LIMIT
    for size, status in ((limit - 200, b"200 OK"), (limit + 1, b"431")):
        with connected(url) as connection:
            head = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx: " + b"x" * size
            connection.sendall(head + b"\r\n\r\n")
            got = answer_of(connection)
        assert status in got.split(b"\r\n")[0]
        assert (b"headers-too-large" in got) == (status == b"431")


@pytest.mark.parametrize("start", [b"", b"\r\n", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n"])
def test_a_connection_that_asks_nothing_is_closed(url: str, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "HEAD_WAIT_S", 0.3)
    began = time.monotonic()
    with connected(url) as connection:
        connection.sendall(start)
        assert answer_of(connection) == b""
    assert time.monotonic() - began < 10


def test_a_request_after_another_has_its_own_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_limits, "HEAD_WAIT_S", 0.3)
    with connected(url) as connection:
        for _ in range(2):
            connection.sendall(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
            got = b""
            while not got.endswith(b"}"):
                got += connection.recv(1 << 16)
            assert got.startswith(b"HTTP/1.1 200 OK")
            time.sleep(0.4)
        connection.sendall(b"GET ")
        assert answer_of(connection) == b""


def test_a_trailer_is_no_header(url: str) -> None:
    """uvicorn would add it to the headers that the service reads; the chunked body ends with it."""
    with connected(url) as connection:
        connection.sendall(CHUNKED.replace(b"host: localhost", b"host: localhost\r\nconnection: close"))
        connection.sendall(b"3\r\nabc\r\n0\r\nauthorization: Bearer x\r\n\r\n")
        assert b"200 OK" in answer_of(connection).split(b"\r\n")[0]


def test_a_slow_body_is_not_waited_for(clients: Clients, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "BODY_GRACE_S", 0.5)
    with connected(url) as connection:
        connection.sendall(CHUNKED)
        for _ in range(3):
            connection.sendall(b"1\r\nx\r\n")
            time.sleep(0.25)
        assert b"408" in connection.recv(1 << 16).split(b"\r\n")[0]


def test_head_answers_as_get_does_and_probes_need_no_host(reader: TestClient, url: str) -> None:
    for path in ("/healthz", "/v1/gate?model=net&version=1", "/", "/v1/jobs"):
        got, asked = reader.head(path), reader.get(path)
        assert (got.status_code, got.content) == (asked.status_code, b"")
        assert got.headers["content-type"] == asked.headers["content-type"]
    assert reader.head("/v1/tokens").status_code == 401
    for path, status in (("/healthz", b"200"), ("/readyz", b"200"), ("/v1/jobs", b"421")):
        with connected(url) as connection:
            connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            assert answer_of(connection).split(b" ")[1] == status


# Patterns -------------------------------------------------------------------------------------------------------------


def test_stars_cost_no_power_of_their_number() -> None:
    began = time.process_time()
    assert not matches("*a" * 300 + "*x", "a" * 5000)
    assert not matches("*" * 20_000 + "x", "a" * 5000)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [("a*a", "a", False), ("a*a", "aa", True), ("*", "", True), ("", "", True), ("", "a", False),
     ("a*b*b", "ab", False), ("*ab*ab", "abab", True), ("a*", "ba", False), ("a?[b]", "a?[b]", True),
     ("x*y", "x\ny", True), ("**", "a", True)],
)  # fmt: skip
def test_a_star_matches_any_run_and_nothing_else_is_special(pattern: str, name: str, fits: bool) -> None:
    assert matches(pattern, name) is fits


# Other sites and proxies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"},
                                  {"origin": "null"}, {"sec-fetch-site": "same-site"}])  # fmt: skip
def test_a_page_of_another_site_writes_nothing_without_a_token(reader: TestClient, sign: dict[str, str]) -> None:
    asked = {"policy": "policy: x"}
    assert reader.post("/v1/policies/backtests", json=asked, headers=sign).status_code == 403
    assert reader.post("/v1/verify", content=b"x", headers=FILE | sign).status_code == 403
    assert reader.post("/v1/verify", content=b"x", headers=FILE).status_code == 200
    own = {"origin": "http://127.0.0.1"}
    assert reader.post("/v1/verify", content=b"x", headers=FILE | own).status_code == 200


@pytest.mark.parametrize("header", ["Forwarded", "X-Forwarded-For", "X-Forwarded-Prefix", "X-Forwarded-Proto", "Via",
    "X-Real-IP", "CF-Connecting-IP", "CF-Ray", "True-Client-IP", "X-Client-IP", "X-Cluster-Client-IP",
    "Fastly-Client-IP", "X-Envoy-External-Address", "X-Amzn-Trace-Id", "X-Azure-ClientIP", "X-Original-Forwarded-For",
    "X-Appengine-User-IP", "CDN-Loop", "X-Proxy-User", "X-Original-URL", "X-Remote-Addr"])  # fmt: skip
def test_what_a_proxy_forwards_is_not_local(reader: TestClient, header: str) -> None:
    assert reader.get("/v1/jobs").status_code == 200
    assert reader.get("/v1/jobs", headers={header: "x"}).status_code == 401


# Bodies and disks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def submitter(clients: Clients) -> TestClient:
    return clients("submitter", "ann")


def test_streamed_bodies_take_no_idempotency_key(submitter: TestClient, site: ProjectState) -> None:
    sent = {"idempotency-key": "k", **FILE}
    for path in ("/v1/uploads?name=a", "/v1/verify"):
        assert submitter.post(path, content=b"x", headers=sent).status_code == 422


def _header(name: str, size: int, kind: bytes = tarfile.REGTYPE, pax: dict[str, str] | None = None) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.pax_headers = size, kind, pax or {}
    return member.tobuf(tarfile.PAX_FORMAT)


def _tar(*names: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 1
            archive.addfile(member, io.BytesIO(b"x"))
    return made.getvalue()


END = bytes(1024)
SPARSE_MAP = {
    "GNU.sparse.major": "0",
    "GNU.sparse.minor": "1",
    "GNU.sparse.map": "0,0",
    "GNU.sparse.size": str(3 << 30),
}
HOSTILE_TARS = {
    "sparse": _header("a", 0, tarfile.GNUTYPE_SPARSE) + END,
    "sparse in pax": _header("a", 0, pax=SPARSE_MAP) + END,
    "more than arrived": _header("a", 3 << 30) + END,
    "negative": _header("a", 0).replace(b"00000000000\0", b"\xff" * 12, 1) + END,
    "size in pax": _header("a", 1, pax={"size": str(3 << 30)}) + b"x" + bytes(511) + END,
    "long long name": _header("././@LongLink", 1 << 20, tarfile.GNUTYPE_LONGNAME) + bytes(1 << 20) + END,
    "folder with bytes": _header("a", 512, tarfile.DIRTYPE) + _header("b", 1) + END,
    "backslash": _tar("a\\b"),
    "300 characters": _tar("a" * 300),
    "300 bytes": _tar("é" * 150),
    "control": _tar("a\x01b"),
    "right to left": _tar("a\u202egpj.txt"),
    "zero width": _tar("a\u200bb"),
    "decomposed": _tar("e\u0301"),
    "case": _tar("Model.bin", "model.bin"),
    "form": _tar("ﬁle", "file"),
    "twice": _tar("a", "b", "a"),
    "file and folder": _tar("release/a", "release/a/b"),
    "folder and file": _tar("release/a/b", "release/a"),
    "long path": _tar("/".join(("release", *["é" * 120] * 5))),
    "twice with a dot": _tar("a", "./a"),
    "not UTF-8": _tar("ab").replace(b"ab\0", b"\xff\xfe\0", 1),
}


@pytest.mark.parametrize("kind", HOSTILE_TARS)
def test_a_tar_that_is_more_than_it_says_is_refused(submitter: TestClient, site: ProjectState, kind: str) -> None:
    body = HOSTILE_TARS[kind]
    got = submitter.post("/v1/uploads", content=body, headers=TAR)
    assert (got.status_code, got.json()["code"]) == (422, "invalid-input")
    assert list((site.folder / "uploads").iterdir()) == []
    assert submitter.post("/v1/verify", content=body, headers=TAR).status_code == 422


def test_many_members_are_read_in_linear_time(submitter: TestClient) -> None:
    body = _tar(*(f"release/{number}" for number in range(4000)))
    began = time.process_time()
    submitter.post("/v1/verify", content=body, headers=TAR)
    assert time.process_time() - began < 10


def test_a_full_disk_is_507_and_leaves_nothing(
    submitter: TestClient, site: ProjectState, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "a").symlink_to("/dev/full")

    @contextmanager
    def no_space(_: ProjectState) -> Iterator[Path]:
        yield full

    monkeypatch.setattr(uploads, "upload_folder", no_space)
    got = submitter.post("/v1/uploads?name=a", content=b"x" * 100_000, headers=FILE)
    assert (got.status_code, got.json()["code"]) == (507, "storage-full")
    assert "Traceback" not in got.text


def test_a_service_that_cannot_write_is_not_ready(
    reader: TestClient, site: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reader.get("/readyz").status_code == 200

    def refused(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(state.os, "fsync", refused)
    monkeypatch.setattr(site, "_written", None)
    with pytest.raises(StorageFull):
        site.require_writable()
    got = reader.get("/readyz")
    assert (got.status_code, str(site.folder) in got.text) == (503, False)


def test_a_card_with_a_name_twice_or_without_end_is_refused() -> None:
    for text in ('{"kind":"architecture","architecture":"a","architecture":"b"}', "[" * 100_000, '{"a":' * 100_000):
        with pytest.raises(InvalidInput):
            ArchitectureCard.parse(text.encode())
