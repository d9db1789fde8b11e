"""Terms over HTTP and on the page of the model: two approvers set them."""

from __future__ import annotations

from starlette.testclient import TestClient

from auditsvc.records import ReleaseTerms, TermsProposal
from auditsvc.web.state import ProjectState
from tests.web import sample
from tests.web.conftest import Clients

FIELDS = {"policy": sample.POLICY.digest, "datasets": [sample.DATASET.digest], "reason": "newer data"}


def test_one_approver_proposes_and_another_confirms(clients: Clients, reader: TestClient) -> None:
    asked = clients("approver", "gus").post("/v1/models/net/terms", json={**FIELDS, "approvals": 3})
    assert asked.status_code == 201, asked.text
    proposal = TermsProposal.parse(asked.content)
    assert (proposal.proposed_by, proposal.approvals) == ("gus", 3)
    shown = reader.get("/v1/models/net/terms").json()
    assert (shown["digest"], shown["proposal"]) == (sample.TERMS.digest, proposal.digest)
    path = f"/v1/terms-proposals/{proposal.digest}/confirmations"
    assert clients("approver", "gus").post(path).status_code == 409
    made = clients("approver", "hal").post(path)
    assert (
        made.status_code == 201 and made.headers["location"] == f"/v1/terms/{ReleaseTerms.parse(made.content).digest}"
    )
    assert reader.get("/v1/models/net/terms").json()["digest"] == ReleaseTerms.parse(made.content).digest


def test_other_roles_set_no_terms(clients: Clients, site: ProjectState) -> None:
    before = site.ledger.size()
    for role in ("reader", "submitter", "auditor", "admin"):
        caller = clients(role)
        assert caller.post("/v1/models/net/terms", json=FIELDS).status_code == 403
        assert caller.post(f"/v1/terms-proposals/{sample.PROPOSAL.digest}/confirmations").status_code == 403
        assert caller.post("/models/net/terms", data={"policy": "standard"}).status_code == 403
    assert not list(site.ledger.all(TermsProposal))[1:] and site.ledger.size() >= before


def test_bad_terms_are_refused_with_every_reason(clients: Clients) -> None:
    caller = clients("approver", "gus")
    wrong = caller.post("/v1/models/net/terms", json={**FIELDS, "approvals": 1, "slices": {"kind=x": 5}})
    assert wrong.status_code == 422 and len(wrong.json()["reasons"]) == 2, wrong.text
    assert caller.post("/v1/models/other/terms", json=FIELDS).status_code == 404
    assert caller.post("/v1/models/net/terms", json={**FIELDS, "policy": "mine.yaml"}).status_code == 422


def test_the_page_of_a_model_shows_its_terms_and_takes_new_ones(clients: Clients, reader: TestClient) -> None:
    page = reader.get("/models/net").text
    assert sample.POLICY.digest in page and "Proposed by bob, confirmed by cyd" in page and "version 3" in page
    assert reader.get("/models/other").status_code == 404
    form = {"policy": sample.POLICY.digest, "datasets": sample.DATASET.digest, "reason": "newer", "slices": ""}
    gus, hal = clients("approver", "gus"), clients("approver", "hal")
    assert gus.post("/models/net/terms", data=form, follow_redirects=False).status_code == 303
    assert "Another person" in gus.get("/models/net").text
    proposal = reader.get("/v1/models/net/terms").json()["proposal"]
    assert f"/terms-proposals/{proposal}/confirmations" in hal.get("/models/net").text
    sent = hal.post(f"/terms-proposals/{proposal}/confirmations", data={"go": "1"}, follow_redirects=False)
    assert sent.status_code == 303
    assert "Proposed by gus, confirmed by hal" in reader.get("/models/net").text


def test_a_decision_under_earlier_terms_says_so_and_shows_the_others(clients: Clients, reader: TestClient) -> None:
    proposal = clients("approver", "gus").post("/v1/models/net/terms", json=FIELDS)
    clients("approver", "hal").post(f"/v1/terms-proposals/{TermsProposal.parse(proposal.content).digest}/confirmations")
    path = f"/decisions/{sample.decision(2).digest}"
    page = clients("approver", "ida").get(path).text
    assert "earlier terms" in page and "Approve as" not in page
    assert clients("approver", "ida").post(f"/v1{path}/approvals", json={}).status_code in (403, 409)
    assert reader.get("/v1/gate?model=net&version=2").json()["answer"] == "inconclusive"
    assert reader.get("/v1/gate?model=net&version=1").json()["answer"] == "approved"
