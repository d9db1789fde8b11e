"""Uploads, jobs, statements, tokens and webhooks through the client, against a service that runs, on fakes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import auditsvc.client
from auditsvc.client import AsyncClient, Client
from auditsvc.client.calls import RECORD_PATHS
from auditsvc.compliance.assessment.attestations import Document
from auditsvc.errors import Conflict, Forbidden, InvalidInput, NotFound, Unavailable
from auditsvc.records import JOB_KINDS, ReleaseRequest, digest_of
from auditsvc.web.state import ProjectState
from tests.client.test_client import _client, clock, remembered, site, url
from tests.web import sample
from tests.web.access import ROUTES

__all__ = ["clock", "remembered", "site", "url"]

ORDER = ReleaseRequest(decision=sample.decision(2).digest)
BY_CALL = {
    ("GET", "/v1/releases/{digest}/attestations/{name:path}"),
    ("GET", "/v1/releases/{digest}/revocations"),
    ("GET", "/v1/log/inclusion"),
    ("GET", "/v1/log/consistency"),
    ("GET", "/v1/log/entries/{index}"),
    ("GET", "/v1/log/tile/{path:path}"),
    ("GET", "/v1/trust/{path:path}"),
    ("GET", "/v1/keys"),
    ("GET", "/v1/keys/trust-policy"),
    ("GET", "/v1/frameworks"),
    ("GET", "/v1/frameworks/{framework}"),
    ("GET", "/v1/builtin-policies"),
    ("GET", "/v1/builtin-policies/{name}"),
    ("GET", "/v1/questionnaire"),
    ("GET", "/v1/identify/queries"),
    ("POST", "/v1/identify/answers"),
    ("GET", "/v1/jobs/{id}/events"),
    ("GET", "/v1/releases/{digest}/watch"),
    ("POST", "/v1/releases/{digest}/watch"),
    ("POST", "/v1/watch-proposals/{digest}/confirmations"),
    ("POST", "/v1/drift-alarms/{digest}/mutes"),
    ("POST", "/v1/observations"),
    ("POST", "/v1/observation-labels"),
}
"""Routes without a method of their own: read by ``call``, or by the command line's verifier."""


def test_every_route_has_a_method_or_is_named_here() -> None:
    """Read from the client's own sources, so that a new route without a way to it fails."""
    sources = "".join(path.read_text() for path in Path(auditsvc.client.__file__).parent.glob("*.py"))
    read = {f"/v1/{place}" for place in RECORD_PATHS.values()}
    missing = set()
    for method, path in ROUTES:
        template = path.partition("/{digest}")[0] if path.endswith("/{digest}") else path
        known = template in read or (method, path) in BY_CALL or ROUTES[method, path] == "hmac"
        if known or not path.startswith("/v1/"):
            continue
        parts = [part for part in path.split("/")[2:] if "{" not in part]
        generic = {"jobs", "reviews", *RECORD_PATHS.values(), *JOB_KINDS}
        if not all(part in sources or part in generic for part in parts):
            missing.add((method, path))
    assert missing == set()
    assert set(ROUTES) >= BY_CALL


def test_files_are_sent_and_become_a_document_that_another_reviews(
    url: str, site: ProjectState, tmp_path: Path
) -> None:
    (tmp_path / "use.pdf").write_bytes(b"%PDF" * 100_000)
    ann = _client(url, site, "submitter", "ann")
    (file,) = ann.upload(tmp_path / "use.pdf")
    assert (file.name, file.digest) == ("use.pdf", digest_of(b"%PDF" * 100_000))
    given = {"model": "net", "document": "doc.instructions", "title": "How to use it", "expires": "2027-11-22"}
    made = ann.create_statement(Document, given | {"file": file.model_dump()})
    with pytest.raises(Conflict):
        _client(url, site, "auditor", "Ann").review_statement(Document, made.digest)
    assert ann.download_document(made.digest, tmp_path / "read.pdf").read_bytes() == b"%PDF" * 100_000
    assert _client(url, site, "auditor", "eve").review_statement(Document, made.digest).reviewer == "eve"
    assert len(list(ann.iter_records(Document, about="net"))) == 2
    with pytest.raises(InvalidInput):
        ann.upload(tmp_path)


def test_jobs_are_asked_for_watched_stopped_and_tried_again(url: str, site: ProjectState) -> None:
    eve = _client(url, site, "auditor", "eve")
    job = eve.submit_job(ORDER)
    assert (job.state, job.submitted_by, eve.get_job(job.id), eve.list_jobs()) == ("queued", "eve", job, (job,))
    with pytest.raises(Unavailable, match="still queued"):
        eve.wait_for_job(job.id, timeout_s=0.05, interval_s=0.02)
    assert eve.cancel_job(job.id).state == "cancelled"
    assert eve.wait_for_job(job.id).state == "cancelled"
    assert eve.retry_job(job.id).state == "queued"
    with pytest.raises(NotFound):
        eve.submit_job(ReleaseRequest(decision="sha256:" + "0" * 64))
    with pytest.raises(Forbidden):
        _client(url, site, "reader", "bob").submit_job(ORDER)


def test_an_admin_issues_tokens_and_manages_webhooks(url: str, site: ProjectState) -> None:
    admin = _client(url, site, "admin", "eve")
    new = admin.issue_token("bob", "reader", days=3)
    assert Client(url, new.token).whoami().name == "bob"
    assert admin.revoke_token(new.about.id).revoked
    assert {token.name for token in admin.list_tokens()} >= {"eve", "bob"}
    added = admin.create_webhook("https://ci.example.org/x", ["release.created"])
    assert [one.id for one in admin.list_webhooks()] == [added.about.id]
    assert admin.delete_webhook(added.about.id).disabled_at
    assert admin.list_deliveries("failed") == ()
    with pytest.raises(NotFound):
        admin.redeliver("msg_000000000000_1")


def test_what_is_known_is_read(url: str, site: ProjectState) -> None:
    client = Client(url)
    assert [item.kind for item in client.provenance(sample.candidate(1).files[0].digest).origins] == [
        "candidate",
        "release",
    ]
    assert client.log_checkpoint().count("\n") > 3
    tried = client.backtest_policy(client.call("GET", "/v1/builtin-policies/standard").decode())
    assert (tried.changed, {item.now for item in tried.decisions}) == (3, {"inconclusive"})
    assert b"nist" in client.call("GET", "/v1/frameworks")


def test_the_async_client_works_too(url: str, site: ProjectState) -> None:
    async def asked() -> tuple[str, str]:
        client = AsyncClient(url, site.access.issue("eve", "auditor", 1)[0])
        job = await client.submit_job(ORDER)
        await client.cancel_job(job.id)
        return (await client.wait_for_job(job.id, interval_s=0.01)).state, (await client.whoami()).role

    assert asyncio.run(asked()) == ("cancelled", "auditor")
