"""What named people say: documents, answers, plans and words on changes, each reviewed by somebody else."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.testclient import TestClient

from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document
from auditsvc.web.state import ProjectState
from tests.fakes import FixedClock
from tests.web import sample
from tests.web.conftest import Clients

DOCUMENT = {"model": "net", "document": "doc.instructions", "title": "How to use it", "expires": "2027-11-22"}
PLAN = {
    "model": "net",
    "methods": ["magnitude-global"],
    "max_targets": {"sparsity": 0.5},
    "max_loss": 0.02,
    "max_loss_of_a_group": 0.05,
    "words": "prune for the phone",
    "expires": "2027-11-22",
}


def test_a_document_stands_under_its_owner_and_is_reviewed_by_another(
    clients: Clients, site: ProjectState, clock: FixedClock
) -> None:
    ann = clients("submitter", "ann")
    (file,) = ann.post("/v1/uploads?name=use.pdf", content=b"%PDF", headers={"content-type": "x/y"}).json()["files"]
    got = ann.post("/v1/documents", json=DOCUMENT | {"file": file})
    made = Document.parse(got.content)
    assert (got.status_code, made.owner, made.reviewer, made.file is not None) == (201, "ann", "", True)
    clock.forward(hours=1)
    path = f"/v1/documents/{made.digest}/reviews"
    assert clients("auditor", "Ann").post(path).json()["code"] == "conflict"
    reviewed = Document.parse(clients("auditor", "eve").post(path).content)
    assert (reviewed.reviewer, reviewed.title, reviewed.at > made.at) == ("eve", made.title, True)
    again = f"/v1/documents/{reviewed.digest}/reviews"
    assert clients("auditor", "fay").post(again).json()["detail"] == "eve reviewed it already"
    assert [item.reviewer for item in site.ledger.find(Document, "net")] == ["", "eve"]


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"file": {"name": "x.pdf", "size": 1, "digest": "sha256:" + "0" * 64}}, 404),
        ({"statement": "", "file": None}, 422),
        ({"model": "unknown", "statement": "x"}, 404),
        ({"candidate": "sha256:" + "0" * 64, "statement": "x"}, 404),
        ({"expires": "2026-11-01", "statement": "x"}, 422),
        ({"document": "nonsense", "statement": "x"}, 422),
    ],
)
def test_a_document_that_can_not_be_meant_is_refused(clients: Clients, changed: dict[str, Any], status: int) -> None:
    assert clients("submitter").post("/v1/documents", json=DOCUMENT | changed).status_code == status


def test_the_questionnaire_is_answered_and_nothing_is_made_up(clients: Clients, site: ProjectState) -> None:
    eve = clients("auditor", "eve")
    asked = [item["question"] for item in eve.get("/v1/questionnaire").json()["questions"]]
    given = {"model": "net", "answers": {asked[0]: "no", asked[1]: "unknown"}, "expires": "2027-01-01"}
    made = Answers.parse(eve.post("/v1/answers", json=given).content)
    assert (made.person, made.answers) == ("eve", given["answers"])
    assert site.ledger.find(Answers, "net") == (made,)
    strange = eve.post("/v1/answers", json=given | {"answers": {"art99": "no"}})
    assert strange.json()["reasons"] == ["no question art99"]
    assert eve.post("/v1/answers", json=given | {"answers": {asked[0]: "maybe"}}).status_code == 422
    assert eve.post("/v1/answers", json=given | {"expires": "2026-11-22"}).status_code == 422


def test_a_plan_and_a_word_on_a_change_need_a_second_person_too(clients: Clients, site: ProjectState) -> None:
    ann, eve, gus = clients("submitter", "ann"), clients("auditor", "eve"), clients("approver", "gus")
    plan = ChangePlan.parse(ann.post("/v1/change-plans", json=PLAN).content)
    assert ChangePlan.parse(eve.post(f"/v1/change-plans/{plan.digest}/reviews").content).reviewer == "eve"
    word = {"candidate": sample.candidate(1).digest, "verdict": "planned", "reason": "inside the plan"}
    verdict = ChangeVerdict.parse(eve.post("/v1/change-verdicts", json=word).content)
    path = f"/v1/change-verdicts/{verdict.digest}/reviews"
    assert clients("approver", "eve").post(path).status_code == 409
    assert ChangeVerdict.parse(gus.post(path).content).reviewer == "gus"
    assert len(gus.get("/v1/change-verdicts", params={"subject": sample.candidate(1).digest}).json()["items"]) == 2


def test_frameworks_are_listed_and_read_whole(reader: TestClient) -> None:
    found = reader.get("/v1/frameworks").json()
    assert {"nist-ai-rmf-1.0", "eu-ai-act-2024-1689"} <= {item["framework"] for item in found}
    for item in found:
        whole = reader.get(f"/v1/frameworks/{item['framework']}").json()
        assert len(whole["requirements"]) == item["requirements"] > 0
    assert reader.get("/v1/frameworks/none").status_code == 404


def test_shipped_policies_are_read_as_they_are(reader: TestClient) -> None:
    names = reader.get("/v1/builtin-policies").json()
    assert "standard" in names
    assert "policy:" in reader.get("/v1/builtin-policies/standard").text
    assert reader.get("/v1/builtin-policies/none").status_code == 404


def test_a_backtest_lists_the_decisions_that_would_change(reader: TestClient, site: ProjectState) -> None:
    text = reader.get("/v1/builtin-policies/standard").text
    before = site.ledger.size()
    found = reader.post("/v1/policies/backtests", json={"policy": text}).json()
    assert {(item["version"], item["before"], item["now"]) for item in found["decisions"]} == {
        ("1", "approved", "inconclusive"),  # what standard asks for was never measured here
        ("2", "approved", "inconclusive"),
        ("3", "rejected", "inconclusive"),
    }
    assert found["changed"] == 3
    assert reader.post("/v1/policies/backtests", json={"policy": text, "model": "other"}).json()["decisions"] == []
    faults = reader.post("/v1/policies/backtests", json={"policy": "policy: x\nrules: 3\n"}).json()
    assert (faults["code"], len(faults["reasons"]) > 1) == ("invalid-policy", True)
    assert site.ledger.size() == before
