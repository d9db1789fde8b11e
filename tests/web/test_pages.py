"""The pages: what they show, and that their buttons obey the same rules as the API."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from auditsvc.records import Approval
from auditsvc.web.auth.token_store import COOKIE, HOST_COOKIE, delete_ended_sessions
from auditsvc.web.service_schema import session
from auditsvc.web.state import ProjectState
from tests.fakes import FixedClock
from tests.web import sample
from tests.web.conftest import Clients

OWN = {"sec-fetch-site": "same-origin"}


def _browser(clients: Clients, site: ProjectState, role: str, name: str) -> TestClient:
    """A browser that came in with a token of this role."""
    browser = clients()
    secret, _ = site.access.issue(name, role, 1)
    got = browser.post("/login", data={"token": secret}, headers=OWN)
    assert got.status_code == 303
    browser.headers["accept"] = "text/html"
    return browser


def test_the_first_page_counts_and_lists_what_is_to_be_done(clients: Clients, reader: TestClient) -> None:
    page = reader.get("/").text
    waits, released, others = (page.index(f'<h2 id="{name}"') for name in ("others", "released", "not-released"))
    assert waits < page.index('net <span class="num">2<') < released
    assert released < page.index('net <span class="num">1<') < others
    assert others < page.index('net <span class="num">3<')
    assert "Failed required rules: little-is-lost" in page
    assert re.findall(r'<b class="num">(\d+)</b> ([^<]+)', page)[:3] == [
        ("0", "Waiting for you"), ("0", "Terms to confirm"), ("0", "Statements to review"),
    ]  # fmt: skip
    own = clients("approver", "bob").get("/").text
    assert '<b class="num">1</b> Waiting for you' in own and own.index('id="you"') < own.index('id="released"')


def test_models_are_searched_and_a_model_has_its_versions_and_events(reader: TestClient) -> None:
    assert '<a href="/models/net">net</a>' in reader.get("/models?q=NE&task=classification").text
    assert "No model matches" in reader.get("/models?q=other").text
    assert "No model matches" in reader.get("/models?task=detection").text
    assert "No model matches" in reader.get("/models?verdict=approved").text  # the newest version is not decided
    assert "/models/net" in reader.get("/models?verdict=inconclusive&owner=Ann").text
    page = reader.get("/models/net").text
    assert "<option>3</option>" in page and "<option>4</option>" not in page  # 4 is not decided: nothing to compare
    assert page.count("<tr>") == 5 and "magnitude-global, sparsity 0.3" in page
    events = page[page.index("Timeline") :]
    for words in ("ann submitted version 4", "version 3: decision rejected", "cyd approved version 1", "version 1 was"):
        assert words in events
    both = reader.get("/models/net/comparison?one=2&other=3").text
    assert "Every blocking rule is met" in both and "Not approved: loses 3.0" in both
    assert '<th scope="row">Recipe</th><td class="num">magnitude-global, sparsity 0.2</td>' in both
    assert "Rule little-is-lost, results met" in both and '<th scope="row">Policy</th>' not in both  # the same
    assert "comparison?one=1&amp;other=3" in reader.get(f"/candidates/{sample.candidate(3).digest}").text
    assert "Changes against" not in reader.get(f"/candidates/{sample.candidate(1).digest}").text
    assert reader.get("/models/net/comparison?one=2&other=4").status_code == 404


def test_a_candidate_stands_beside_its_parent_the_hardest_hit_slice_after_overall(reader: TestClient) -> None:
    page = reader.get(f"/candidates/{sample.candidate(3).digest}").text
    assert page.index("all images</th>", page.index("losses")) < page.rindex("gender=F</th>")
    assert "96.0 %" in page and "93.0 %" in page and "+3.0" in page
    assert "1 predictions changed" in page


def test_a_decision_shows_its_rules_and_who_is_missing(reader: TestClient) -> None:
    page = reader.get(f"/decisions/{sample.decision(2).digest}").text
    assert page.count("another person, not ann") == 2
    assert "<button>Approve" not in page
    refused = reader.get(f"/decisions/{sample.decision(3, 'rejected').digest}").text
    assert "submits a new version" in refused and "users would notice" in refused


def test_two_people_consent_with_the_button_and_the_submitter_has_none(clients: Clients, site: ProjectState) -> None:
    path = f"/decisions/{sample.decision(2).digest}"
    for name in ("bob", "cyd"):
        browser = _browser(clients, site, "approver", name)
        assert f"Approve as {name}" in browser.get(path).text
        got = browser.post(f"{path}/approvals", data={"comment": "fine"}, headers=OWN)
        assert (got.status_code, got.headers["location"]) == (303, path)
        assert "Approve as" not in browser.get(path).text
    assert {item.approver for item in site.ledger.find(Approval, sample.decision(2).digest)} == {"bob", "cyd"}
    ann = _browser(clients, site, "approver", "ann")
    assert "Approve as" not in ann.get(path).text
    refused = ann.post(f"{path}/approvals", data={"comment": ""}, headers=OWN)
    assert refused.status_code == 409
    assert "<button>Sign and publish" in _browser(clients, site, "auditor", "eve").get(path).text


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}, {}])
def test_another_site_can_not_press_the_button(clients: Clients, site: ProjectState, headers: dict[str, str]) -> None:
    browser = _browser(clients, site, "approver", "bob")
    got = browser.post(f"/decisions/{sample.decision(2).digest}/approvals", data={"comment": "x"}, headers=headers)
    assert got.status_code == 403
    assert site.ledger.find(Approval, sample.decision(2).digest) == ()


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(clients: Clients, site: ProjectState) -> None:
    secret, _ = site.access.issue("bob", "approver", 1)
    cookie = clients().post("/login", data={"token": secret}, headers=OWN).headers["set-cookie"].lower()
    assert cookie.startswith(COOKIE) and "httponly" in cookie and "samesite=strict" in cookie
    wrong = clients().post("/login", data={"token": "auditsvc_no"}, headers=OWN)
    assert (wrong.status_code, "set-cookie" in wrong.headers) == (401, False)
    browser = _browser(clients, site, "approver", "bob")
    browser.post("/logout", headers=OWN)
    assert "not signed in" in browser.get("/").text


def test_a_cookie_holds_a_session_and_never_the_token(
    clients: Clients, site: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, _ = site.access.issue("bob", "approver", 90)
    for url, cookie, secure in (("", COOKIE, False), ("https://audit.example.org", HOST_COOKIE, True)):
        monkeypatch.setattr(site, "public_url", url)
        set_cookie = clients().post("/login", data={"token": secret}, headers=OWN).headers["set-cookie"]
        name, _, rest = set_cookie.partition("=")
        assert (name, "Secure" in rest, "Path=/;" in rest, "Domain" in rest) == (cookie, secure, True, False)
        assert secret not in set_cookie
        held = rest.partition(";")[0]
        assert clients(client=("192.0.2.1", 1)).get("/v1/whoami", headers={"cookie": f"{cookie}={held}"}).json() == {
            "name": "bob", "role": "approver", "project": "",
        }  # fmt: skip
        assert clients().get("/v1/whoami", headers={"authorization": f"Bearer {held}"}).status_code == 401
        as_cookie = {"cookie": f"{cookie}={secret}"}
        assert clients().get("/v1/whoami", headers=as_cookie).status_code == 401


def test_a_session_gets_new_secrets_and_ends(clients: Clients, site: ProjectState, clock: FixedClock) -> None:
    browser = _browser(clients, site, "approver", "bob")
    first = browser.cookies[COOKIE]
    assert "set-cookie" not in browser.get("/v1/whoami").headers
    clock.forward(minutes=16)
    assert browser.get("/v1/whoami").status_code == 200
    second = browser.cookies[COOKIE]
    assert second != first
    old = {"cookie": f"{COOKIE}={first}"}
    assert clients().get("/v1/whoami", headers=old).status_code == 200  # the answer may have been lost
    assert browser.get("/v1/whoami").status_code == 200
    assert clients().get("/v1/whoami", headers=old).status_code == 401
    clock.forward(minutes=61)
    assert browser.get("/v1/whoami").status_code == 401
    browser = _browser(clients, site, "approver", "bob")
    for minutes in range(0, 12 * 60, 30):
        assert browser.get("/v1/whoami").status_code == 200, minutes
        clock.forward(minutes=30)
    assert browser.get("/v1/whoami").status_code == 401
    delete_ended_sessions(site.access)
    with site.access.read_tx() as connection:
        assert connection.execute(session.select()).all() == []


@pytest.mark.parametrize("stripped", [True, False])
def test_pages_work_under_a_path(
    clients: Clients, site: ProjectState, stripped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy strips the path of the public URL, or passes it on."""
    monkeypatch.setattr(site, "public_url", "http://audit.example.org/gates/eu")
    path = "" if stripped else "/gates/eu"
    browser = clients()
    for place in ("/", "/policies", "/guide", "/docs", f"/candidates/{sample.candidate(3).digest}"):
        page = browser.get(path + place)
        assert page.status_code == 200
        links = re.findall(r' (?:href|src|action|spec-url|hx-\w+)="(/[^"]*)"', page.text)
        assert links and all(link.startswith("/gates/eu/") for link in links), place
    secret, _ = site.access.issue("bob", "auditor", 1)
    got = browser.post(f"{path}/login", data={"token": secret}, headers=OWN)
    assert (got.status_code, got.headers["location"]) == (303, "/gates/eu/")
    assert browser.get("/gates/eup/policies").status_code == 404


def test_a_session_ends_with_its_token(clients: Clients, site: ProjectState) -> None:
    browser = _browser(clients, site, "approver", "bob")
    site.access.revoke(site.access.tokens()[-1].id)
    assert browser.get("/v1/whoami").status_code == 401


def test_a_waiver_from_the_page_needs_a_reason_and_a_day(clients: Clients, site: ProjectState) -> None:
    path = f"/decisions/{sample.decision(3, 'rejected').digest}"
    browser = _browser(clients, site, "approver", "bob")
    for given in ({"rule": "little-is-lost", "reason": "x"}, {"rule": "little-is-lost", "until": "2026-12-01"}):
        assert browser.post(f"{path}/waivers", data=given, headers=OWN).status_code == 422
    given = {"rule": "little-is-lost", "reason": "a trial <b>", "until": "2026-12-01"}
    assert browser.post(f"{path}/waivers", data=given, headers=OWN).status_code == 303
    assert "a trial &lt;b&gt;" in browser.get(path).text


def test_an_error_on_a_page_is_a_page_and_on_the_api_a_problem(reader: TestClient) -> None:
    missing = f"/candidates/{'sha256:' + '0' * 64}"
    page = reader.get(missing, headers={"accept": "text/html"})
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert reader.get(missing).headers["content-type"] == "application/problem+json"
    api = reader.get("/v1/gate", headers={"accept": "text/html"})
    assert api.headers["content-type"] == "application/problem+json"


def test_the_log_shows_who_did_what(reader: TestClient) -> None:
    page = reader.get("/log").text
    assert f"/decisions/{sample.decision(1).digest}" in page
    assert "auditsvc.internal" in page
    assert reader.get("/log?before=2").text.count("inclusion<") == 2
    assert reader.get("/log?before=-5").status_code == 200


@pytest.mark.parametrize("path", ["/", "/log", "/verify", "/login", "/docs"])
def test_a_page_has_a_title_a_language_one_heading_and_no_inline_script_or_style(reader: TestClient, path: str) -> None:
    page = reader.get(path).text
    assert '<html lang="en">' in page and page.count("<h1") == 1 and "<title>" in page
    assert not re.findall(r"<script(?![^>]*src=)|\sstyle=|\son[a-z]+=", page)


def test_a_decision_is_one_sentence_a_map_and_a_next_step(reader: TestClient) -> None:
    page = reader.get(f"/decisions/{sample.decision(3, 'rejected').digest}").text
    assert "Not approved: loses 3.0\xa0points (2.0 to 4.0; 879 images) on all images." in page
    assert "<title>gender=F, unmodified images: loss 3.0\xa0points (2.0 to 4.0), 157 images;" in page
    assert 'class="l3 broken"' in page and "Next: ann prunes less" in page
    waiting = reader.get(f"/decisions/{sample.decision(2).digest}").text
    assert "Next: 2 more people with the role approver, not ann, approve." in waiting
    assert "Approve and Reject need the role approver; you are not signed in." in waiting


def test_an_objection_stops_approval_and_release_until_its_author_withdraws_it(
    clients: Clients, site: ProjectState
) -> None:
    path = f"/decisions/{sample.decision(2).digest}"
    bob, cyd = (_browser(clients, site, "approver", name) for name in ("bob", "cyd"))
    assert bob.post(f"{path}/objections", data={"state": "rejected", "reason": " "}, headers=OWN).status_code == 422
    assert bob.post(f"{path}/objections", data={"state": "no", "reason": "x"}, headers=OWN).status_code == 422
    given = {"state": "changes requested", "reason": "fails <b>at night"}
    assert bob.post(f"{path}/objections", data=given, headers=OWN).status_code == 303
    page = cyd.get(path).text
    assert "requested changes: fails &lt;b&gt;at night" in page and "Approve as" not in page
    refused = cyd.post(f"{path}/approvals", data={"comment": "ok"}, headers=OWN)
    assert refused.status_code == 409 and "bob requested changes" in refused.text
    assert cyd.post(f"{path}/objections", data={"state": "withdrawn", "reason": "x"}, headers=OWN).status_code == 409
    asked = clients().get("/v1/gate?model=net&version=2").json()
    assert asked["answer"] == "inconclusive" and asked["reasons"] == ["bob requested changes: fails <b>at night"]
    assert (
        bob.post(f"{path}/objections", data={"state": "withdrawn", "reason": "fixed"}, headers=OWN).status_code == 303
    )
    assert cyd.post(f"{path}/approvals", data={"comment": "ok"}, headers=OWN).status_code == 303
    again = {"state": "rejected", "reason": "no"}
    made = clients("approver", "bob").post(f"/v1{path}/objections", json=again)
    assert made.status_code == 201
    assert clients().get("/v1/gate?model=net&version=2").json()["answer"] == "rejected"
    assert clients("auditor", "eve").post(f"/v1{path}/release").status_code == 409
    assert clients("auditor", "eve").post(f"/v1{path}/objections", json=again).status_code == 403
