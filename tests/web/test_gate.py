"""The gate question over HTTP."""

from __future__ import annotations

import datetime
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from auditsvc.errors import NotFound
from auditsvc.records import DriftAlarm, Revocation
from auditsvc.services.gate_query import MOST_REASONS, GateAnswer, query_gate
from auditsvc.services.watching import WatchDraft, confirm_watch, mute_alarm, propose_watch
from auditsvc.web.gate_cache import GateCache
from auditsvc.web.state import ProjectState
from tests.fakes import NOON
from tests.web import sample


@pytest.mark.parametrize(
    ("version", "answer"), [("1", "approved"), ("2", "inconclusive"), ("3", "rejected"), ("4", "inconclusive")]
)
def test_the_answer_is_the_verbs_own(reader: TestClient, site: ProjectState, version: str, answer: str) -> None:
    got = reader.get("/v1/gate", params={"model": "net", "version": version})
    assert got.status_code == 200
    assert got.json()["answer"] == answer
    assert GateAnswer.model_validate(got.json()) == query_gate(site.ledger, "net", version)


def test_a_policy_that_never_judged_answers_inconclusive(reader: TestClient) -> None:
    assert reader.get("/v1/gate?model=net&version=1&policy=standard").json()["answer"] == "approved"
    assert reader.get("/v1/gate?model=net&version=1&policy=strict").json()["answer"] == "inconclusive"


def test_a_revocation_counts_at_the_next_request(reader: TestClient, site: ProjectState) -> None:
    assert reader.get("/v1/gate?model=net&version=1").json()["answer"] == "approved"
    revocation = Revocation(
        release=sample.released().digest, reason="a flaw", requested_by="ann", confirmed_by="bob", at=NOON
    )
    site.ledger.append(revocation, actor="bob")
    assert reader.get("/v1/gate?model=net&version=1").json()["answer"] == "revoked"


def test_an_answer_that_still_holds_is_not_sent_again(reader: TestClient) -> None:
    first = reader.get("/v1/gate?model=net&version=1")
    again = reader.get("/v1/gate?model=net&version=1", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("form", ["{}", "W/{}", '"a", {}', '"a",W/{} , "b"', "*", " * "])
@pytest.mark.parametrize("path", ["/v1/gate?model=net&version=1", f"/v1/decisions/{sample.decision(2).digest}"])
def test_entity_tags_are_compared_as_http_says(reader: TestClient, path: str, form: str) -> None:
    etag = reader.get(path).headers["etag"]
    assert reader.get(path, headers={"if-none-match": form.format(etag)}).status_code == 304
    for other in (form.format('"other"').replace("*", "x"), etag.strip('"'), f'"x{etag[1:]}', f"'{etag}'x"[1:-3]):
        assert reader.get(path, headers={"if-none-match": other}).status_code == 200, other


def test_an_answer_names_some_reasons_and_where_all_are(reader: TestClient, site: ProjectState) -> None:
    few = sample.decision(3, "rejected")
    (one,) = few.judgements
    many = tuple(one.model_copy(update={"rule": f"rule-{number}"}) for number in range(2000))
    decision = few.model_copy(update={"judgements": many, "at": NOON + datetime.timedelta(minutes=1)})
    site.ledger.append(decision, actor="auditsvc")
    got = reader.get("/v1/gate?model=net&version=3").json()
    assert (got["answer"], len(got["reasons"])) == ("rejected", MOST_REASONS + 1)
    assert got["reasons"][-1] == f"and {2000 - MOST_REASONS} more, in /v1/decisions/{decision.digest}"


def test_a_version_that_nobody_submitted_is_not_found(reader: TestClient) -> None:
    got = reader.get("/v1/gate?model=net&version=99")
    assert (got.status_code, got.json()["code"]) == (404, "not-found")


@pytest.mark.parametrize("query", ["", "model=net", "model=net&version=x", "model=../x&version=1", "version=1"])
def test_a_question_that_makes_no_sense_lists_its_faults(reader: TestClient, query: str) -> None:
    got = reader.get(f"/v1/gate?{query}")
    assert (got.status_code, got.json()["code"]) == (422, "invalid-input")
    assert got.json()["reasons"]


@pytest.mark.anyio
async def test_evidence_changes_no_remembered_answer_and_a_decision_does(site: ProjectState) -> None:
    answers = GateCache(site.ledger, None)
    await answers.ask("net", "4", None)
    site.ledger.append(sample.evidence(4), actor="auditsvc")
    await answers.ask("net", "4", None)
    assert len(answers) == 1
    site.ledger.append(sample.decision(4), actor="auditsvc")
    assert b"not released" in (await answers.ask("net", "4", None)).body


@pytest.mark.anyio
async def test_an_alarm_and_its_mute_change_the_remembered_answer(site: ProjectState) -> None:
    answers, release, ctx = GateCache(site.ledger, None, clock=site.clock), sample.released(), site.ctx
    draft = WatchDraft(data="audited", reason="the plan")
    settings = confirm_watch(ctx, propose_watch(ctx, release, draft, "ann"), "bob")
    assert b"monitor:" not in (await answers.ask("net", "1", None)).body
    alarm = DriftAlarm(
        release=release.digest, model="net", version="1", candidate=release.candidate, settings=settings.digest,
        stream="brightness", words="brightness changed", images=40, at=NOON,
    )  # fmt: skip
    site.ledger.append(alarm, actor="auditsvc")
    assert b"monitor: brightness changed" in (await answers.ask("net", "1", None)).body
    mute_alarm(ctx, alarm, "bob", "a known change", ctx.clock.now() + datetime.timedelta(days=1))
    assert b"monitor:" not in (await answers.ask("net", "1", None)).body


@pytest.mark.anyio
async def test_memory_is_bounded_and_errors_are_not_remembered(site: ProjectState) -> None:
    answers = GateCache(site.ledger, None, remembered=2)
    for version in ("1", "2", "3"):
        await answers.ask("net", version, None)
    with pytest.raises(NotFound):
        await answers.ask("net", "99", None)
    assert len(answers) == 2


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def test_the_service_starts_without_torch_and_mlflow() -> None:
    code = "import sys; import auditsvc.web.app; print(sorted({'torch', 'mlflow', 'numpy'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_parameter_that_is_given_twice_is_refused(reader: TestClient) -> None:
    got = reader.get("/v1/gate?model=net&version=1&version=3")
    assert (got.status_code, got.json()["code"]) == (422, "invalid-input")
    assert got.json()["reasons"] == ["query version: given 2 times"]
    assert reader.get("/v1/candidates?limit=1&limit=2").status_code == 422
    assert reader.get("/v1/gate?model=net&version=1").status_code == 200
