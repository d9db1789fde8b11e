"""The pages in a real Chromium: buttons, the dropped file, no console errors, nothing that axe finds."""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from auditsvc.compliance.assessment.attestations import Document, Incident, Watch
from auditsvc.records import Approval, Release, ReleaseRequest, Revocation
from auditsvc.web.state import ProjectState
from tests.fakes import NOON
from tests.web import sample
from tests.web.test_release import decided_elsewhere

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


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
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


def _focused(page) -> str:
    """What a screen reader says of the focused element."""
    return page.evaluate(
        "(() => { const e = document.activeElement; return (e.labels?.length ? e.labels[0].textContent : "
        "e.getAttribute('aria-label') ?? e.textContent).replace(/\\s+/g, ' ').trim(); })()"
    )


def _reach(page, words: str) -> None:
    """Press Tab until the element of these words has the focus."""
    for _ in range(150):
        page.keyboard.press("Tab")
        if _focused(page).startswith(words):
            return
    raise AssertionError(f"no way to {words!r} by keyboard on {page.url}")


class _Keyboard:
    """A browser of one person who has no mouse; every page that it comes to is checked and photographed."""

    def __init__(self, chromium, url: str, site: ProjectState, width: int, scheme: str, folder: Path) -> None:
        self._chromium, self._url, self._site, self._folder = chromium, url, site, folder
        self._options = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}}
        self._name = f"{width}-{scheme}"

    def sign_in(self, name: str, role: str) -> None:
        self.context, self._who = self._chromium.new_context(**self._options), role
        self.page = self.context.new_page()
        self.page.goto(self._url)
        self.press("Sign in")
        _reach(self.page, "Token")
        self.page.keyboard.type(self._site.access.issue(name, role, 1)[0])
        self.press("Sign in")
        assert f"{name}, {role}" in self.page.inner_text("header")

    def press(self, words: str) -> None:
        """Go to the element of these words, press Enter, and wait for the page that follows."""
        _reach(self.page, words)
        with self.page.expect_navigation():
            self.page.keyboard.press("Enter")

    def fill(self, words: str, text: str) -> None:
        _reach(self.page, words)
        self.page.keyboard.type(text)

    def look(self, *words: str) -> None:
        """The page says this, fits its width, and axe finds nothing; its picture is kept."""
        text = self.page.inner_text("main")
        assert [one for one in words if one not in text] == [], text
        found = axe.Axe().run(self.page)
        assert found.violations_count == 0, found.generate_report()
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), self.page.url
        shot = (
            f"{self._who}-{urlsplit(self.page.url).path.strip('/').replace('/', '-')[:30] or 'home'}-{self._name}.png"
        )
        self.page.screenshot(path=self._folder / shot, full_page=True)

    def sign_out(self) -> None:
        self.page.goto(self._url)
        self.press("Sign out")
        assert "not signed in" in self.page.inner_text("header")
        self.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_four_people_do_their_day_s_work_by_keyboard(
    chromium, url: str, site: ProjectState, tmp_path: Path, width: int, scheme: str
) -> None:
    about = decided_elsewhere(site)
    folder = Path(os.environ.get("AUDITSVC_SCREENSHOTS", tmp_path))
    folder.mkdir(exist_ok=True)
    site.data_dir = tmp_path / "data"
    (site.data_dir / "faces").mkdir(parents=True)
    person = _Keyboard(chromium, url, site, width, scheme, folder)

    person.sign_in("ann", "submitter")  # the engineer imports a model
    person.press("Jobs")
    person.press("Start an audit")
    person.fill("Or a version of the MLflow registry", "models:/net/9")
    person.look("A model that was pruned elsewhere", "needs the role auditor")
    person.press("Import as ann")
    person.look("Waiting for a worker", "models:/net/9")
    person.sign_out()

    for name in ("gus", "hal"):  # two approvers read the decision and approve
        person.sign_in(name, "approver")
        person.press(f"{about.model} {about.version}")
        person.fill("Comment", "read it")
        person.look("What happens next", "approve")
        person.press(f"Approve as {name}")
        assert f"{name} approved" in person.page.inner_text("main")
        person.sign_out()

    person.sign_in("eve", "auditor")  # the auditor signs it, and audits the next version
    person.press(f"{about.model} {about.version}")
    person.look("hal approved")
    person.press("Sign and publish")
    person.look("released", "bundle")
    person.press("Jobs")
    person.press("Start an audit")
    _reach(person.page, "Check the number of images")
    person.page.keyboard.press("Enter")
    person.page.wait_for_selector("#plan *")
    person.press("Start audit as eve")
    person.look("queued", "Cancel")
    person.press("Cancel")
    assert "cancelled" in person.page.inner_text("main")
    person.sign_out()

    person.sign_in("max", "reader")  # the manager reads what is released, what is not and why, and what is due
    person.look("Released", "Failed required rules")
    person.press("Models")
    person.fill("Name", "net")
    person.press("Search")
    person.press("net")
    person.look("Timeline", "Score against size")
    _reach(person.page, "with")
    person.press("Compare")
    person.press("Version 3")
    person.look("Not approved: loses")
    person.press("Statements")
    person.fill("Contains", "bias")
    person.press("Show")
    person.look("Due")
    person.sign_out()
    (release,) = site.ledger.find(Release, about.decision.digest)
    assert {site.ledger.get(Approval, one).approver for one in release.approvals} == {"gus", "hal"}
    assert [job.state for job in site.jobs.page()] == ["cancelled", "queued"]


def _come_in(page, url: str, site: ProjectState, name: str, role: str) -> None:
    page.goto(f"{url}/login")
    page.fill("#token", site.access.issue(name, role, 1)[0])
    page.click("main button")
    page.wait_for_url(f"{url}/")


def test_a_release_is_recalled_by_two_people_with_buttons(chromium, url: str, site: ProjectState) -> None:
    release = sample.released()
    site.ctx.registry.tags["net", "1"] = {}  # type: ignore[attr-defined]
    site.ledger.append(sample.look(release), actor="mia")
    for name, words in (("bob", "Request revocation as bob"), ("cyd", "Confirm revocation as cyd")):
        context = chromium.new_context(viewport={"width": 390, "height": 800})
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


def test_people_say_and_review_in_forms_that_are_whole_and_accessible(
    chromium, url: str, site: ProjectState, tmp_path: Path
) -> None:
    (tmp_path / "how to use (it).pdf").write_bytes(b"%PDF a face is 0 or 1")
    context = chromium.new_context(viewport={"width": 390, "height": 800}, accept_downloads=True)
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
