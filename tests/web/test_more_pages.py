"""Policies with a dry run, reports, jobs, what waits for whom, and what a candidate's page draws."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from auditsvc.compliance.render.tables import PICTURES, pictures
from auditsvc.records import JobEvent, Policy
from auditsvc.services.policies import read_policy
from auditsvc.web.pages.policies import changed_policy
from auditsvc.web.state import ProjectState
from auditsvc.web.webhook_delivery import WebhookSender
from tests.fakes import NOON
from tests.web import sample
from tests.web.conftest import Clients
from tests.web.test_pages import OWN, _browser


def test_what_waits_for_you_is_yours_to_do(clients: Clients, site: ProjectState) -> None:
    def waiting(role: str, name: str) -> bool:
        return '<h2 id="you">' in _browser(clients, site, role, name).get("/").text

    assert waiting("approver", "bob")
    assert not waiting("approver", "ann")  # she submitted it
    assert not waiting("auditor", "eve")  # nobody consented yet
    for name in ("bob", "cyd"):
        site.ledger.append(sample.approval(2, name), actor=name)
    assert not waiting("approver", "bob")
    assert waiting("auditor", "eve")
    given = {"policy": sample.POLICY.digest, "datasets": [sample.DATASET.digest], "reason": "a newer one"}
    assert clients("approver", "bob").post("/v1/models/net/terms", json=given).status_code == 201
    for name, count in (("bob", 0), ("cyd", 1)):
        page = clients("approver", name).get("/").text
        assert f'<b class="num">{count}</b> Terms to confirm' in page, name
    made = {"model": "net", "document": "doc.test_plan", "title": "x", "statement": "x", "expires": "2027-01-01"}
    assert clients("submitter", "ann").post("/v1/documents", json=made).status_code == 201
    assert '<b class="num">1</b> Statements to review' in clients("auditor", "eve").get("/").text


def test_policies_are_listed_and_told_in_words(reader: TestClient) -> None:
    page = reader.get("/policies").text
    assert f'href="/policies/{sample.POLICY.digest}"' in page and "policy: standard" in page
    assert "policy: strict" in reader.get("/policies?of=strict").text
    assert "<textarea" in reader.get("/policies?of=../../etc/passwd").text
    words = reader.get(f"/policies/{sample.POLICY.digest}").text
    assert sample.POLICY.why in words and sample.POLICY.digest in words


def test_a_dry_run_shows_what_would_turn_and_stores_nothing(
    clients: Clients, site: ProjectState, reader: TestClient
) -> None:
    text = reader.get("/v1/builtin-policies/standard").text
    before = site.ledger.size()
    page = reader.post("/policies/backtests", data={"policy": text, "model": "net"}).text
    assert '<b class="num">3</b>' in page and page.count("<b>changed</b>") == 3
    faults = reader.post("/policies/backtests", data={"policy": "policy: <b>\nrules: 3"}).text
    assert "This policy is not valid" in faults
    assert "<b>\n" not in faults
    assert site.ledger.size() == before


def test_a_policy_is_a_table_whose_limits_are_tried_and_saved(clients: Clients, site: ProjectState) -> None:
    bob = _browser(clients, site, "approver", "bob")
    page = bob.get("/policies/standard").text
    assert 'name="limit.overall-loss"' in page and 'name="base" value="standard"' in page
    given = {"base": "standard", "limit.overall-loss": "0.5", "images.overall-loss": "", "approvals": "3"}
    tried = bob.post("/policies/backtests", data=given, headers=OWN).text
    assert "approvals: 2 -&gt; 3 (stricter)" in tried and "overall-loss" in tried and "Save policy as bob" in tried
    assert "Save policy" not in clients().post("/policies/backtests", data=given).text
    wrong = bob.post("/policies/backtests", data=given | {"limit.overall-loss": "much"}, headers=OWN).text
    assert "limit.overall-loss: &#39;much&#39; is not a number" in wrong
    text = changed_policy(read_policy("standard"), given)
    assert bob.post("/policies", data={"policy": text}, headers=OWN).status_code == 303
    (_, saved), *_ = site.ledger.page(Policy)
    rules = {rule.rule: rule for rule in saved.rules}
    assert (saved.version, saved.approvals, rules["overall-loss"].at_most) == (
        read_policy("standard").version + 1,
        3,
        0.5,
    )
    assert "Differences from standard" in bob.get(f"/policies/{saved.digest}").text
    assert bob.post("/policies", data={"policy": "policy: x"}, headers=OWN).status_code == 422
    assert clients("auditor").post("/v1/policies", json={"policy": text}).status_code == 403


PLACE = sample.decision(3, "rejected").digest[7:23]
"""The folder of the report of a decision."""


@pytest.fixture
def report(site: ProjectState) -> Path:
    folder = site.folder / "reports" / "net" / "3" / PLACE
    folder.mkdir(parents=True)
    (folder / "report.html").write_text("<script>alert(1)</script>")
    (folder / "report.pdf").write_bytes(b"%PDF-")
    (folder / "oscal.zip").write_bytes(b"PK")
    shown = {
        "image": "a.jpg", "source": "data:image/png;base64,AAAA", "parent": "F", "candidate": "M", "target": "F",
        "condition": "clean", "slices": [],
    }  # fmt: skip
    (folder / PICTURES).write_text(json.dumps([shown]))
    (folder / "secret.key").write_text("no")
    return folder


def test_reports_are_listed_with_their_files(reader: TestClient, report: Path) -> None:
    page = reader.get(f"/decisions/{sample.decision(3, 'rejected').digest}").text
    assert all(f"/reports/net/3/{PLACE}/{name}" in page for name in ("report.html", "report.pdf", "oscal.zip"))
    assert "secret.key" not in page and PICTURES not in page
    shown = reader.get(f"/reports/net/3/{PLACE}/report.html")
    assert "sandbox" in shown.headers["content-security-policy"]
    assert "attachment" in reader.get(f"/reports/net/3/{PLACE}/oscal.zip").headers["content-disposition"]
    for path in (
        f"/reports/net/3/{PLACE}/secret.key",
        f"/reports/net/9/{PLACE}/report.html",
        f"/reports/net/3/{PLACE}/..%2f..%2faccess.db",
    ):
        assert reader.get(path).status_code in (404, 422)


def test_the_images_that_flipped_stand_on_the_candidate_s_page(reader: TestClient, report: Path) -> None:
    page = reader.get(f"/candidates/{sample.candidate(3).digest}").text
    assert 'src="data:image/png;base64,AAAA"' in page and "parent F, candidate <b>M</b>, label F" in page
    (report / PICTURES).write_text("{")
    assert reader.get(f"/candidates/{sample.candidate(3).digest}").status_code == 503


def test_the_other_candidates_are_drawn_beside_this_one(reader: TestClient) -> None:
    page = reader.get(f"/candidates/{sample.candidate(2).digest}").text
    assert page.count('class="mark candidate approved"') == 4 and page.count('class="mark candidate rejected"') == 2
    assert page.count('class="ring"') == 2 and "The weakest slice of each version" in page


def test_pictures_are_told_apart_by_their_bytes() -> None:
    from auditsvc.compliance.assessment.assessment_context import GalleryItem

    facts = {"image": "x", "parent": "a", "candidate": "b", "target": "a", "slices": (), "condition": "clean"}
    facts["change"] = "right to wrong"
    found = json.loads(pictures([GalleryItem(data=b"\x89PNG..", **facts), GalleryItem(data=b"\xff\xd8", **facts)]))
    assert [item["source"].partition(";")[0] for item in found] == ["data:image/png", "data:image/jpeg"]


def test_an_audit_is_planned_started_followed_and_cancelled_on_pages(clients: Clients, site: ProjectState) -> None:
    eve = _browser(clients, site, "auditor", "eve")
    assert "hx-trigger" not in eve.get("/jobs").text and "Start an audit" in eve.get("/jobs").text
    chosen = {"candidate": sample.candidate(4).digest, "policy": sample.POLICY.digest, "data": "faces"}
    plan = eve.get("/jobs/audit", params=chosen).text
    assert "with the slices of faces (879 images)" in plan and "the policy can approve a candidate" in plan
    assert "Start audit as eve" in plan and "Importing a candidate needs the role submitter" in plan
    strict = eve.get("/jobs/audit", params=chosen | {"policy": "strict"}).text
    assert "can't be decided" in strict
    made = eve.post("/jobs/audit", data=chosen, headers=OWN)
    path = made.headers["location"]
    (job,) = site.jobs.page()
    assert (made.status_code, path) == (303, f"/jobs/{job.id}") and job.request.model_dump()["data"] == "faces"
    for done, seconds in ((0, 0), (100, 30)):
        event = JobEvent(number=done + 1, at=NOON + timedelta(seconds=seconds), step="accuracy", done=done, total=400)
        site.jobs.added[job.id].append(event)  # type: ignore[attr-defined]
    page = eve.get(path).text
    assert "25 %, about 2 min left" in page and "hx-trigger" in page and "25 %" in eve.get("/jobs").text
    assert eve.post(f"{path}/cancel", headers=OWN).status_code == 303
    assert "<button>Retry" in eve.get(path).text and "hx-trigger" not in eve.get(path).text
    assert eve.post(f"{path}/retry", headers=OWN).status_code == 303 and site.jobs.get(job.id).state == "queued"
    assert eve.post("/jobs/audit", data=chosen | {"data": "../x"}, headers=OWN).status_code == 422


def test_a_model_is_uploaded_and_audited_from_the_page(clients: Clients, site: ProjectState) -> None:
    ann = _browser(clients, site, "submitter", "ann")
    given = {"parent": sample.PARENT.digest, "probe": "faces", "policy": "standard", "reference": ""}
    files = [("files", ("a/model (1).safetensors", b"weights")), ("files", ("config.json", b"{}"))]
    made = ann.post("/jobs/import", data=given, files=files, headers=OWN)
    (job,) = site.jobs.page()
    asked = job.request.model_dump()
    assert made.headers["location"] == f"/jobs/{job.id}" and asked["policy"] == "standard" and asked["data"] == "faces"
    assert [one["name"] for one in asked["files"]] == ["model -1-.safetensors", "config.json"]
    both = ann.post("/jobs/import", data=given | {"reference": "models:/net/1"}, files=files, headers=OWN)
    assert both.status_code == 422 and "either the files" in both.text


def test_an_admin_sees_a_new_token_once_and_revokes_it(clients: Clients, site: ProjectState) -> None:
    admin = _browser(clients, site, "admin", "root")
    assert "Copy it now" not in admin.get("/admin").text and "/admin" not in clients().get("/").text
    made = admin.post("/admin/tokens", data={"name": "bob", "role": "approver", "days": "30"}, headers=OWN)
    secret = made.text.partition("<code>auditsvc_")[2].partition("<")[0]
    assert site.access.caller(f"auditsvc_{secret}").name == "bob" and made.headers["cache-control"] == "no-store"
    assert secret not in admin.get("/admin").text
    token = next(one.id for one in site.access.tokens() if one.name == "bob")
    assert admin.post(f"/admin/tokens/{token}/revocations", headers=OWN).status_code == 303
    assert token not in admin.get("/admin").text
    assert admin.post("/admin/tokens", data={"name": "bob", "role": "king"}, headers=OWN).status_code == 422


def test_an_admin_manages_webhooks_and_sees_what_is_not_healthy(clients: Clients, site: ProjectState) -> None:
    admin = _browser(clients, site, "admin", "root")
    site.sender = WebhookSender(frozenset({"ci.example.org"}))
    given = {"url": "https://ci.example.org/hook", "events": "release.created, release.revoked"}
    assert "whsec_" in admin.post("/admin/webhooks", data=given, headers=OWN).text
    (hook,) = site.webhooks.webhooks()
    assert hook.events == ("release.created", "release.revoked")
    site.webhooks.enqueue(1, [(0, "release.created", b"{}")])
    assert "pending" in admin.get("/admin").text
    assert admin.post(f"/admin/webhooks/{hook.id}/disable", headers=OWN).status_code == 303
    page = admin.get("/admin").text
    assert "disabled" in page and "failed" in page and "Redeliver" in page
    assert "entries, the ledger follows from them" in page
    site.watch_faults = ("net: the registry does not answer",)
    assert "net: the registry does not answer" in admin.get("/admin").text
