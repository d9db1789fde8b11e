"""Policies with a dry run, reports, jobs, what waits for whom, and what a candidate's page draws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from auditsvc.compliance.render.tables import PICTURES, pictures
from auditsvc.records import ReleaseRequest
from auditsvc.web.state import ProjectState
from tests.web import sample
from tests.web.conftest import Clients
from tests.web.test_pages import _browser


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
    page = reader.get("/reports").text
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
    assert page.count('class="mark candidate approved"') == 2 and page.count('class="mark candidate rejected"') == 1
    assert page.count('class="ring"') == 1


def test_pictures_are_told_apart_by_their_bytes() -> None:
    from auditsvc.compliance.assessment.assessment_context import GalleryItem

    facts = {"image": "x", "parent": "a", "candidate": "b", "target": "a", "slices": (), "condition": "clean"}
    facts["change"] = "right to wrong"
    found = json.loads(pictures([GalleryItem(data=b"\x89PNG..", **facts), GalleryItem(data=b"\xff\xd8", **facts)]))
    assert [item["source"].partition(";")[0] for item in found] == ["data:image/png", "data:image/jpeg"]


def test_jobs_are_shown_and_the_page_looks_again_while_one_goes_on(reader: TestClient, site: ProjectState) -> None:
    assert "hx-trigger" not in reader.get("/jobs").text
    job = site.jobs.submit(ReleaseRequest(decision=sample.decision(2).digest), "eve")
    page = reader.get("/jobs").text
    assert "hx-trigger" in page and "queued" in page and job.id in page
    site.jobs.cancel(job.id)
    assert "hx-trigger" not in reader.get("/jobs").text
