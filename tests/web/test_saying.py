"""The forms in which people say what no test can know, and the page on which somebody else reviews it."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document
from auditsvc.compliance.assessment.framework import load_questionnaire
from auditsvc.records import digest_of
from auditsvc.resources import resource_dir
from auditsvc.web.state import ProjectState
from tests.fakes import FixedClock
from tests.web import sample
from tests.web.conftest import Clients

OWN = {"sec-fetch-site": "same-origin"}
DOCUMENT = {"model": "net", "document": "doc.instructions", "title": "How to <use> it", "expires": "2027-11-22"}
PLAN = {
    "model": "net",
    "methods": "magnitude-global, random",
    "max_targets": "sparsity 0.5\nflops: 0.3",
    "max_loss": "2",
    "max_loss_of_a_group": "5.5",
    "words": "prune for the phone",
    "expires": "2027-11-22",
}
FILE = ("../x/use (1).pdf", b"%PDF", "application/pdf")


def _browser(clients: Clients, site: ProjectState, role: str, name: str) -> TestClient:
    browser = clients()
    browser.post("/login", data={"token": site.access.issue(name, role, 1)[0]}, headers=OWN)
    browser.headers.update({"accept": "text/html", **OWN})
    return browser


def _said(browser: TestClient, place: str, **given: str) -> None:
    got = browser.post(f"/statements/{place}", data=given)
    assert (got.status_code, got.headers.get("location")) == (303, "/statements"), got.text


def test_a_document_is_added_with_its_file_and_reviewed_by_another_person(
    clients: Clients, site: ProjectState, clock: FixedClock
) -> None:
    ann = _browser(clients, site, "submitter", "ann")
    got = ann.post("/statements/documents", data=DOCUMENT | {"candidate": "", "statement": ""}, files={"file": FILE})
    assert got.status_code == 303, got.text
    (made,) = site.ledger.find(Document, "net")
    assert (made.owner, made.reviewer, made.at, made.file and made.file.digest) == (
        "ann",
        "",
        clock.now(),
        digest_of(b"%PDF"),
    )
    assert made.file is not None and made.file.name == "use -1-.pdf"
    assert clients().get(f"/v1/documents/{made.digest}/file").content == b"%PDF"
    review = f"/statements/documents/{made.digest}/reviews"
    page = ann.get("/statements").text
    assert "How to &lt;use&gt; it" in page and "review your own statement" in page and review not in page
    assert review not in _browser(clients, site, "auditor", "Ann").get("/statements").text
    assert _browser(clients, site, "auditor", "ann").post(review).status_code == 409
    eve = _browser(clients, site, "auditor", "eve")
    assert "Review as eve" in eve.get("/statements").text
    clock.forward(minutes=50)
    assert eve.post(review).status_code == 303
    after = eve.get("/statements").text
    assert "<b>eve</b> reviewed it" in after and "Review as eve" not in after and "Awaiting" not in after
    assert [item.reviewer for item in site.ledger.find(Document, "net")] == ["", "eve"]


def test_a_statement_without_a_file_is_enough_and_nothing_at_all_is_not(clients: Clients, site: ProjectState) -> None:
    ann = _browser(clients, site, "submitter", "ann")
    nothing = {"file": ("", b"", "application/octet-stream")}
    assert ann.post("/statements/documents", data=DOCUMENT, files=nothing).status_code == 422
    assert ann.post("/statements/documents", data=DOCUMENT, files={"file": ("x.pdf", b"")}).status_code == 422
    assert ann.post("/statements/documents", data=DOCUMENT).status_code == 422  # no multipart form
    assert site.ledger.find(Document, "net") == ()
    assert ann.post("/statements/documents", data=DOCUMENT | {"statement": "so"}, files=nothing).status_code == 303
    (made,) = site.ledger.find(Document, "net")
    assert clients().get(f"/v1/documents/{made.digest}/file").status_code == 404


def test_a_question_that_is_left_alone_is_unknown_and_never_no(clients: Clients, site: ProjectState) -> None:
    asked = load_questionnaire(resource_dir("policies")).questions
    eve = _browser(clients, site, "auditor", "eve")
    form = eve.get("/statements/answers").text
    assert form.count('value="unknown" checked') == len(asked)
    answers = {f"answers.{one.question}": "no" for one in asked[1:]}
    _said(eve, "answers", model="net", expires="2027-01-01", **answers)
    (made,) = site.ledger.find(Answers, "net")
    assert (made.person, made.answer(asked[0]), made.answer(asked[1])) == ("eve", "unknown", "no")
    assert '<span class="num">1</span> questions unknown' in eve.get("/statements").text
    assert eve.get("/statements/answers?model=net").text.count('value="no" checked') == len(asked) - 1
    other = _browser(clients, site, "auditor", "fay").get("/statements/answers?model=net").text
    assert other.count('value="unknown" checked') == len(asked)
    strange = {"model": "net", "expires": "2027-01-01", f"answers.{asked[0].question}": "maybe"}
    assert eve.post("/statements/answers", data=strange).status_code == 422


def test_a_plan_is_filed_in_points_and_kept_in_shares(clients: Clients, site: ProjectState) -> None:
    ann = _browser(clients, site, "submitter", "ann")
    _said(ann, "change-plans", **PLAN)
    (made,) = site.ledger.find(ChangePlan, "net")
    assert (made.methods, made.max_targets) == (("magnitude-global", "random"), {"sparsity": 0.5, "flops": 0.3})
    assert (made.max_loss, made.max_loss_of_a_group, made.person) == (0.02, 0.055, "ann")
    eve = _browser(clients, site, "auditor", "eve")
    assert eve.post(f"/statements/change-plans/{made.digest}/reviews").status_code == 303
    assert [item.reviewer for item in site.ledger.find(ChangePlan, "net")] == ["", "eve"]
    for wrong in ({"max_loss": "200"}, {"max_loss": "much"}, {"methods": " ,"}, {"max_targets": "sparsity"}):
        assert ann.post("/statements/change-plans", data=PLAN | wrong).status_code == 422


def test_a_word_on_a_change_is_reviewed_by_an_approver(clients: Clients, site: ProjectState) -> None:
    eve = _browser(clients, site, "auditor", "eve")
    word = {"candidate": sample.candidate(1).digest, "verdict": "planned", "reason": "inside the plan"}
    _said(eve, "change-verdicts", **word)
    (made,) = site.ledger.find(ChangeVerdict, sample.candidate(1).digest)
    assert "role approver, not eve" in eve.get("/statements").text
    gus = _browser(clients, site, "approver", "gus")
    assert gus.post(f"/statements/change-verdicts/{made.digest}/reviews").status_code == 303
    assert "<b>gus</b> reviewed it" in gus.get("/statements").text


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}])
def test_another_site_can_say_nothing_in_somebody_s_name(
    clients: Clients, site: ProjectState, headers: dict[str, str]
) -> None:
    ann = _browser(clients, site, "submitter", "ann")
    del ann.headers["sec-fetch-site"]
    before = site.ledger.size()
    assert ann.post("/statements/change-plans", data=PLAN, headers=headers).status_code == 403
    assert ann.post("/statements/documents", data=DOCUMENT, files={"file": FILE}, headers=headers).status_code == 403
    assert site.ledger.size() == before


def test_who_may_not_send_a_form_is_told_who_may(reader: TestClient) -> None:
    for place, role in (("documents", "submitter"), ("answers", "auditor"), ("change-plans", "submitter")):
        page = reader.get(f"/statements/{place}").text
        assert f"This needs the role {role}" in page and "<button>" not in page


def test_what_is_due_is_listed_by_requirement_day_and_owner(clients: Clients, site: ProjectState) -> None:
    reader = clients()
    page = reader.get("/statements").text
    now, later = page.index("Due now"), page.index("Due from 2026-12-02")
    assert now < page.index("Art. 3(23)") < later and "missing: " in page[now:later]
    assert '<a href="/statements/documents?document=doc.change_assessment&amp;model=net">' in page
    only = reader.get("/statements", params={"framework": "iso-42001-annex-a", "owner": "provider: a document"}).text
    assert '<th scope="row">A.' in only and "engineer: a check)" not in only and "Art. 3(23)" not in only
    assert "Nothing that matches is missing" in reader.get("/statements?q=zzz").text
    form = clients("submitter").get("/statements/documents?document=doc.test_plan&model=net").text
    assert 'value="doc.test_plan" selected' in form and '"net" selected' in form
    wanted = 'missing: <a href="/statements/documents?document=doc.change_assessment'
    assert wanted in reader.get("/statements?q=3(23)").text
    given = {
        "document": "doc.change_assessment",
        "title": "x",
        "statement": "x",
        "expires": "2027-01-01",
        "model": "net",
    }
    made = clients("submitter", "ann").post("/v1/documents", json=given)
    digest = made.headers["etag"].strip(chr(34))
    clients("auditor", "eve").post(f"/v1/documents/{digest}/reviews")
    assert wanted not in reader.get("/statements?q=3(23)").text
    assert reader.get("/statements/none").status_code == 404
