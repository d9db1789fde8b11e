"""The pages in a real Chromium: buttons, the dropped file, no console errors, nothing that axe finds."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditsvc.compliance.assessment.attestations import Document, Incident, Watch
from auditsvc.records import Approval, ReleaseRequest, Revocation
from auditsvc.web.state import ProjectState
from tests.fakes import NOON
from tests.web import sample

pytestmark = pytest.mark.browser

playwright = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=found, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_is_whole_quiet_and_accessible(chromium, url: str, scheme: str, width: int) -> None:
    context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page, told = context.new_page(), []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if not request.url.startswith(url) else None)
    about = (f"/candidates/{sample.candidate(3).digest}", f"/decisions/{sample.decision(2).digest}")
    for path in (
        "/",
        "/models",
        "/models/net",
        "/models/net/comparison?one=2&other=3",
        *about,
        f"/decisions/{sample.decision(3, 'rejected').digest}",
        "/policies",
        f"/policies/{sample.POLICY.digest}",
        "/jobs/audit",
        "/statements",
        "/statements/documents",
        "/jobs",
        "/log",
        "/verify",
        "/login",
        "/problems",
    ):
        page.goto(url + path)
        found = axe.Axe().run(page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the screen"
    assert (told, outside) == ([], [])
    context.close()


def test_the_api_reference_runs_under_its_policy_without_other_hosts(chromium, url: str) -> None:
    page, messages, outside = chromium.new_page(), [], []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    page.on("request", lambda request: outside.append(request.url) if not request.url.startswith(url) else None)
    page.goto(f"{url}/docs")
    page.wait_for_selector("h2:has-text('Query the gate')")
    assert (messages, [address for address in outside if not address.startswith(("data:", "blob:"))]) == ([], [])
    page.close()


def test_an_approver_comes_in_and_consents_with_the_button(chromium, url: str, site: ProjectState) -> None:
    secret, _ = site.access.issue("bob", "approver", 1)
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{url}/login")
    page.fill("#token", secret)
    page.click("main button")
    page.wait_for_url(f"{url}/")
    assert "bob, approver" in page.inner_text("header")
    page.goto(f"{url}/decisions/{sample.decision(2).digest}")
    page.fill("#comment", "looked at it")
    page.click("text=Approve as bob")
    page.wait_for_selector("text=bob approved")
    approvals = site.ledger.find(Approval, sample.decision(2).digest)
    assert [(item.approver, item.comment) for item in approvals] == [("bob", "looked at it")]
    page.click("text=Sign out")
    page.wait_for_selector("text=not signed in")
    context.close()


def _come_in(page, url: str, site: ProjectState, name: str, role: str) -> None:
    page.goto(f"{url}/login")
    page.fill("#token", site.access.issue(name, role, 1)[0])
    page.click("main button")
    page.wait_for_url(f"{url}/")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_release_is_recalled_by_two_people_with_buttons(chromium, url: str, site: ProjectState, width: int) -> None:
    release = sample.released()
    site.ctx.registry.tags["net", "1"] = {}  # type: ignore[attr-defined]
    site.ledger.append(sample.look(release), actor="mia")
    for name, words in (("bob", "Request revocation as bob"), ("cyd", "Confirm revocation as cyd")):
        context = chromium.new_context(viewport={"width": width, "height": 800})
        page = context.new_page()
        _come_in(page, url, site, name, "approver")
        page.goto(f"{url}/decisions/{release.decision}")
        for summary in page.query_selector_all("section details summary"):
            summary.click()
        found = axe.Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert "went from 0.960 to 0.900" in page.inner_text("main")
        if name == "bob":
            page.fill("#revocation-reason", "fails at night")
        page.click(f"text={words}")
        page.wait_for_load_state()
        context.close()
    (made,) = site.ledger.find(Revocation, release.digest)
    assert (made.requested_by, made.confirmed_by, made.reason) == ("bob", "cyd", "fails at night")


@pytest.mark.parametrize("width", [1280, 390])
def test_people_say_and_review_in_forms_that_are_whole_and_accessible(
    chromium, url: str, site: ProjectState, width: int, tmp_path: Path
) -> None:
    (tmp_path / "how to use (it).pdf").write_bytes(b"%PDF a face is 0 or 1")
    context = chromium.new_context(viewport={"width": width, "height": 800}, accept_downloads=True)
    page = context.new_page()

    def check(path: str) -> None:
        found = axe.Axe().run(page)
        assert found.violations_count == 0, f"{path}: {found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} is wider than the screen"

    for name, role, places in (
        ("ann", "submitter", ("documents", "change-plans")),
        ("eve", "auditor", ("answers", "change-verdicts", "incidents", "incident-watches")),
    ):
        _come_in(page, url, site, name, role)
        for place in places:
            page.goto(f"{url}/statements/{place}")
            check(place)
        if name == "ann":
            page.goto(f"{url}/statements/documents")
            page.select_option("#document", "doc.instructions")
            page.fill("#title", "How to use it")
            page.set_input_files("#file", tmp_path / "how to use (it).pdf")
            page.click("main button")
            page.wait_for_url(f"{url}/statements")
            assert "You can't review your own statement." in page.inner_text("main")
            check("statements of one's own")
    known = {"model": "net", "words": "A gate did not open.", "person": "eve", "at": NOON}
    day = datetime.timedelta(days=1)
    site.ledger.append(
        Incident(harm="widespread", aware=NOON - day, **known),
        Incident(harm="death", aware=NOON - 30 * day, **known),
        Incident(harm="health", aware=NOON - 20 * day, reported=NOON - day, authority="Surveillance", **known),
        Watch(since=NOON.date() - 30 * day, until=NOON.date(), **known),
        actor="eve",
    )
    page.goto(f"{url}/statements")
    check("statements to review, incidents")
    with page.expect_download() as loaded:
        page.click("text=how to use -it-.pdf")
    assert Path(loaded.value.path()).read_bytes() == b"%PDF a face is 0 or 1"
    page.click("text=Review as eve")
    page.wait_for_selector("text=eve reviewed it")
    assert [item.reviewer for item in site.ledger.find(Document, "net")] == ["", "eve"]
    context.close()


def test_a_dropped_file_is_verified(chromium, url: str, tmp_path: Path) -> None:
    (tmp_path / "<b>model.safetensors").write_bytes(b"not ours")
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{url}/verify")
    page.set_input_files("#file", tmp_path / "<b>model.safetensors")
    page.wait_for_selector("#result .badge.UNKNOWN")
    assert "<b>model.safetensors" in page.inner_text("#result")
    context.close()


def test_a_policy_is_tried_on_the_past_without_leaving_the_page(chromium, url: str) -> None:
    context = chromium.new_context(viewport={"width": 390, "height": 800})
    page, told = context.new_page(), []
    page.on("console", lambda message: told.append(message.text))
    page.goto(f"{url}/policies?of=standard")
    page.click("main form button")
    page.wait_for_selector("#result table")
    assert page.url.startswith(f"{url}/policies?")
    assert "3 of 3 decisions would change" in page.inner_text("#result")
    found = axe.Axe().run(page)
    assert (found.violations_count, told) == (0, []), found.generate_report()
    page.fill("#policy", "policy: 1")
    page.click("main form button")
    page.wait_for_selector("#result .notice")
    context.close()


def test_jobs_are_followed_without_a_reload(chromium, url: str, site: ProjectState) -> None:
    job = site.jobs.submit(ReleaseRequest(decision=sample.decision(2).digest), "eve")
    page = chromium.new_page()
    page.goto(f"{url}/jobs")
    assert "queued" in page.inner_text("#jobs")
    site.jobs.cancel(job.id)
    page.wait_for_selector("#jobs .badge.cancelled")
    page.close()


def test_an_auditor_traces_a_file_where_others_only_verify(
    chromium, url: str, site: ProjectState, tmp_path: Path
) -> None:
    (tmp_path / "found.safetensors").write_bytes(b"nothing that could be a model")
    secret, _ = site.access.issue("eve", "auditor", 1)
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{url}/verify")
    assert page.query_selector("#identify") is None
    page.goto(f"{url}/login")
    page.fill("#token", secret)
    page.click("main button")
    page.wait_for_url(f"{url}/")
    page.goto(f"{url}/verify")
    page.check("#identify")
    page.set_input_files("#file", tmp_path / "found.safetensors")
    page.wait_for_selector("#result .notice, #result h2")
    context.close()
