"""A store of version 0.1.0 is upgraded in place and stays what it was: log, release, tokens, webhooks and jobs."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from auditsvc.adapters.jobs.job_store import DbosJobs, JobDatabase
from auditsvc.adapters.ledger import SqlLedger
from auditsvc.adapters.sql import Database
from auditsvc.compliance.assessment.attestations import Document
from auditsvc.provenance import TrustRoot, verify
from auditsvc.provenance.formats import merkle_log
from auditsvc.provenance.formats.signed_note import NoteKey, open_checkpoint
from auditsvc.records import Decision, Record, Release, ReleaseTerms, digest_of
from auditsvc.records.base import decode_event
from auditsvc.services.gate_query import query_gate
from auditsvc.services.terms import audited_data
from auditsvc.web import service_schema
from auditsvc.web.auth.token_store import TokenStore
from auditsvc.web.webhook_delivery import WebhookStore
from tests.contracts.sample import a_candidate
from tests.fakes import FixedClock

ARCHIVE = Path(__file__).parent / "store_0_1_0" / "store.tar.xz"
LOG_SIZE, RECORDS = 65, 43
RELEASE = "sha256:179c3f1a62cecb07a8d0e1f53e9070d2c508e9dae99e7e9f50e10f368634ba44"
DECISION = "sha256:83ea308f8e77dea50c0b9652835626deec46074622737f07df1d9e15a9beb8dd"
JOB = "01a22bde975e-21c1fd4e61f0b997"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def _ledger(store: Path) -> SqlLedger:
    return SqlLedger(f"sqlite:///{store}/ledger.db", FixedClock())


def _record_types(of: type[Record] = Record) -> set[type[Record]]:
    return {kind for one in of.__subclasses__() for kind in (one, *_record_types(one))}


def _all_records(ledger: SqlLedger) -> list[Record]:
    return [record for kind in _record_types() if hasattr(kind, "event") for record in ledger.all(kind)]


def test_its_log_extends_the_checkpoint_that_was_published(store: Path) -> None:
    ledger = _ledger(store)
    vkey = json.loads((store / "keys/trust-policy.json").read_text())["log"]["vkey"]
    published = open_checkpoint((store / "checkpoint").read_text(), NoteKey.parse(vkey))
    assert ledger.size() == LOG_SIZE
    assert ledger.root(published.size) == published.root
    ledger.append(a_candidate(), actor="ann")
    now = ledger.size()
    proof = ledger.consistency(published.size, now)
    assert now == LOG_SIZE + 1
    assert merkle_log.continues(published.size, now, published.root, ledger.root(now), proof)
    ledger.close()


def test_all_its_records_are_read(store: Path) -> None:
    ledger = _ledger(store)
    assert len(_all_records(ledger)) == RECORDS
    assert len(list(ledger.all(Document))) == 1
    ledger.close()


def test_its_events_have_the_present_types(store: Path) -> None:
    ledger = _ledger(store)
    events = [event for index in range(LOG_SIZE) if (event := decode_event(ledger.leaf(index)))]
    types = {event["type"] for event in events}
    assert all("." in name for name in types)
    assert types >= {"candidate.submitted", "decision.made", "release.created", "token.issued", "webhook.created"}
    records = {
        record.digest: record for kind in _record_types() if hasattr(kind, "event") for record in ledger.all(kind)
    }
    for event in events:
        if event.get("object") in records:
            assert event["type"] == records[event["object"]].event
    ledger.close()


def test_its_release_is_valid_and_counts_once_two_people_set_the_same_terms(store: Path) -> None:
    ledger, folder = _ledger(store), store / "releases/digits/3"
    (release,) = ledger.all(Release)
    found = verify(
        folder / "release",
        folder / "attest",
        trust=TrustRoot.load(store / "keys/trust-policy.json"),
        at=FixedClock().now().replace(year=2126),
    )
    answers = [query_gate(ledger, "digits", version) for version in ("2", "3", "4")]
    assert (found.verdict, found.reasons) == ("VALID", ())
    assert [answer.answer for answer in answers] == ["inconclusive"] * 3
    assert "without terms" in answers[1].reasons[0]
    decision = ledger.get(Decision, DECISION)
    fields = {
        "model": "digits",
        "policy": decision.policy,
        "policy_name": decision.policy_name,
        "datasets": tuple(one.digest for one in audited_data(ledger, decision)),
        "approvals": 2,
        "reason": "the terms of the release",
        "proposed_by": "ann",
        "at": decision.at,
    }
    other = ReleaseTerms(**(fields | {"policy": digest_of(b"x")}), proposal=digest_of(b"1"), confirmed_by="bob")
    ledger.append(other, actor="bob")
    assert query_gate(ledger, "digits", "3").answer == "inconclusive"
    ledger.append(ReleaseTerms(**fields, proposal=digest_of(b"2"), confirmed_by="bob"), actor="bob")
    assert query_gate(ledger, "digits", "3").answer == "approved"
    assert (answers[1].release, answers[1].decision) == (RELEASE, DECISION) == (release.digest, release.decision)
    ledger.close()


def test_its_tokens_and_webhooks_work(store: Path) -> None:
    url, clock = f"sqlite:///{store}/access.db", FixedClock()
    for _ in range(2):  # the second time nothing is left to upgrade
        access = TokenStore(url, clock)
        callers = {
            name: access.caller(token) for name, token in json.loads((store / "tokens.json").read_text()).items()
        }
        assert {name: (caller.name, caller.roles) for name, caller in callers.items()} == {
            "admin": ("admin", ("admin",)),
            "sue": ("sue", ("submitter",)),
            "aud": ("aud", ("auditor",)),
        }
        webhooks = WebhookStore(access, clock)
        (webhook,) = webhooks.webhooks()
        assert (webhook.url, webhook.events, webhook.created_by) == (
            "https://example.org/hook", ("release.created",), "admin",
        )  # fmt: skip
        assert webhooks.cursor() == LOG_SIZE
        with access.read_tx() as connection:
            assert connection.execute(service_schema.idempotency_key.select()).all() == []  # could hold secrets
        access.close()


def test_its_jobs_are_listed(store: Path) -> None:
    for _ in range(2):
        database = JobDatabase(f"sqlite:///{store}/jobs.db")
        (job,) = DbosJobs(database).page()
        assert (job.id, job.submitted_by, job.state) == (JOB, "eve", "failed")
        assert job.error is not None and job.error.code == "not-found"
        database.close()


def test_a_second_opening_changes_nothing(store: Path) -> None:
    schema = service_schema.SCHEMA
    for name in ("ledger.db", "access.db"):
        (_ledger(store) if name == "ledger.db" else Database(f"sqlite:///{store}/{name}", schema)).close()
        before = (store / name).read_bytes()
        (_ledger(store) if name == "ledger.db" else Database(f"sqlite:///{store}/{name}", schema)).close()
        assert (store / name).read_bytes() == before
