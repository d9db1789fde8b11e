"""The client against a service that runs, on fakes."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from urllib.parse import quote

import pytest

from auditsvc.client import AsyncClient, Client, calls
from auditsvc.client.calls import RECORD_PATHS, Pause, Request
from auditsvc.client.response_models import PendingRequest
from auditsvc.errors import Conflict, Forbidden, InvalidInput, NotApproved, NotFound, Unauthenticated, Unavailable
from auditsvc.records import Approval, Candidate, Decision, Release
from auditsvc.web.record_routes import PATHS
from auditsvc.web.state import ProjectState
from tests.web import sample
from tests.web.conftest import clock, remembered, site, url

__all__ = ["clock", "remembered", "site", "url"]


def _client(url: str, site: ProjectState, role: str, name: str) -> Client:
    return Client(url, site.access.issue(name, role, 1)[0])


def test_a_pipeline_that_requires_an_approval_stops_without_one(url: str) -> None:
    client = Client(url)
    assert client.require("net", "1").answer == "approved"
    with pytest.raises(NotApproved, match="rejected: little-is-lost: loses 3 points"):
        client.require("net", "3")
    with pytest.raises(NotFound):
        client.gate("net", "99")
    with pytest.raises(InvalidInput, match="version"):
        client.gate("net", "x")


def test_records_come_back_as_they_are_kept(url: str, site: ProjectState) -> None:
    client = Client(url)
    assert client.get_record(Decision, sample.decision(1).digest) == sample.decision(1)
    assert list(client.iter_records(Candidate)) == [sample.candidate(number) for number in (4, 3, 2, 1)]
    assert list(client.iter_records(Approval, about=sample.decision(1).digest)) == [
        sample.approval(1, "cyd"),
        sample.approval(1, "bob"),
    ]
    for kind in PATHS:
        assert list(client.iter_records(kind)) == [*site.ledger.all(kind)][::-1]


def test_other_bytes_than_those_of_the_digest_are_refused() -> None:
    call = calls.get_record(Decision, sample.decision(1).digest)
    request = next(call)
    assert isinstance(request, Request) and request.path == f"/v1/decisions/{quote(sample.decision(1).digest)}"
    with pytest.raises(Unavailable, match="does not have the digest"):
        call.send(sample.decision(2).canonical())


def test_what_the_service_refuses_is_raised_as_the_same_error(url: str, site: ProjectState) -> None:
    about = sample.decision(2).digest
    with pytest.raises(Unauthenticated):
        Client(url).approve(about)
    with pytest.raises(Unauthenticated):
        Client(url, "auditsvc_wrong").gate("net", "1")
    with pytest.raises(Forbidden):
        _client(url, site, "reader", "bob").approve(about)
    with pytest.raises(Conflict):
        _client(url, site, "approver", "ann").approve(about)
    assert _client(url, site, "approver", "bob").approve(about, "fine").comment == "fine"


def test_a_recall_is_asked_for_and_confirmed(url: str, site: ProjectState) -> None:
    site.ctx.registry.tags["net", "1"] = {}  # type: ignore[attr-defined]
    about = sample.released().digest
    asked = _client(url, site, "approver", "bob").revoke(about, "fails at night").pending
    assert asked is not None and asked.requested_by == "bob"
    done = _client(url, site, "approver", "cyd").revoke(about)
    assert [item.confirmed_by for item in done.revocations] == ["cyd"]


def test_a_way_back_is_asked_for_and_refused_where_nothing_verifies(url: str, site: ProjectState) -> None:
    about = sample.released().digest
    asked = _client(url, site, "approver", "bob").rollback(about, "fails at night")
    assert isinstance(asked, PendingRequest) and asked.requested_by == "bob"
    with pytest.raises(Conflict, match="another person"):
        asyncio.run(AsyncClient(url, site.access.issue("bob", "approver", 1)[0]).rollback(about))
    with pytest.raises((NotApproved, NotFound)):
        _client(url, site, "approver", "cyd").rollback(about)


def test_a_file_that_nobody_knows_is_unknown(url: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x" * 3_000_000)
    assert Client(url).verify(tmp_path / "model.safetensors").verdict == "UNKNOWN"
    with pytest.raises(InvalidInput):
        Client(url).verify(tmp_path)


def test_a_download_appears_whole_or_not_at_all(url: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Client(url).download_release(sample.released().digest, tmp_path / "r.tar")  # its files are not in this store
    assert list(tmp_path.glob("r.tar")) == []


def test_a_service_that_is_not_there_is_tried_again_and_then_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("auditsvc.client.client.time.sleep", waited.append)
    with pytest.raises(Unavailable, match="does not answer"):
        Client("http://127.0.0.1:9").gate("net", "1")
    assert waited == list(calls.RETRY_PAUSES_S)
    with pytest.raises(InvalidInput):
        Client("ftp://example.org")


def test_a_write_that_is_sent_again_keeps_its_idempotency_key() -> None:
    call = calls.approve(sample.decision(1).digest)
    first = next(call)
    assert call.throw(Unavailable("the connection broke")) == Pause(calls.RETRY_PAUSES_S[0])
    assert call.send(b"") == first
    assert isinstance(first, Request) and first.headers["idempotency-key"]


def test_the_token_is_not_shown(url: str) -> None:
    client = Client(url, "auditsvc_secret")
    assert "auditsvc_secret" not in repr(vars(client))
    assert "auditsvc_secret" not in repr(client._http.headers)


def test_the_client_knows_every_place_that_the_service_has() -> None:
    paths = {kind.kind: path.removeprefix("/v1/") for kind, path in PATHS.items()}
    assert paths == RECORD_PATHS


def test_the_async_client_has_the_same_methods() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(one).parameters) for name, one in methods if not name.startswith("_")}

    blocking, awaitable = public(Client), public(AsyncClient)
    assert awaitable.pop("aclose") == blocking.pop("close")
    assert awaitable == blocking


def test_the_async_client_asks_many_at_once(url: str) -> None:
    async def asked() -> list[str]:
        client = AsyncClient(url)
        answers = await asyncio.gather(*(client.gate("net", str(number)) for number in (1, 2, 3)))
        releases = [item async for item in client.iter_records(Release)]
        assert releases == [sample.released()]
        return [item.answer for item in answers]

    assert asyncio.run(asked()) == ["approved", "inconclusive", "rejected"]
