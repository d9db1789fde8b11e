"""The command line, the API and the pages refuse the same things, with the same words: the rules are in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from auditsvc.cli import decision, statements
from auditsvc.errors import AuditError
from auditsvc.records import Revocation, RevocationRequest
from auditsvc.services.statements import ChangePlanDraft, add_change_plan
from auditsvc.web.state import ProjectState
from tests.fakes import MemoryRegistry
from tests.web import sample
from tests.web.conftest import Clients

Refuse = Callable[[str], str]
"""Does something as this person; gives the message of the refusal, or nothing where it was done."""

PLAN: dict[str, Any] = {"model": "net", "methods": ["random"], "max_loss": 0.02, "max_loss_of_a_group": 0.05}
PLAN |= {"words": "prune for the phone", "expires": "2027-11-22"}


def _command(monkeypatch: pytest.MonkeyPatch, site: ProjectState, call: Callable[[str], None]) -> Refuse:
    for module in (statements, decision):
        monkeypatch.setattr(module, "context_for", lambda *_, **__: site.ctx)

    def run(person: str) -> str:
        try:
            call(person)
        except AuditError as error:
            return str(error)
        return ""

    return run


def _request(clients: Clients, role: str, path: str, **body: Any) -> Refuse:
    def run(person: str) -> str:
        client: TestClient = clients(role, person)
        got = client.post(path, headers={"sec-fetch-site": "same-origin"}, **body)
        return str(got.json()["detail"]) if got.status_code >= 400 else ""

    return run


def test_an_author_can_not_review_and_a_review_counts_once(
    monkeypatch: pytest.MonkeyPatch, clients: Clients, site: ProjectState
) -> None:
    plan = add_change_plan(site.ctx, ChangePlanDraft.model_validate(PLAN), "ann")
    faces = (
        _command(monkeypatch, site, lambda person: statements.review("plan", plan.digest, person)),
        _request(clients, "auditor", f"/v1/change-plans/{plan.digest}/reviews"),
        _request(clients, "auditor", f"/statements/change-plans/{plan.digest}/reviews"),
    )
    own = "Ann is the author and can't review it; another person must"
    assert [face("Ann") for face in faces] == [own] * 3
    assert faces[0]("eve") == ""
    assert [face("gus") for face in faces] == ["eve reviewed it already"] * 3


def test_a_revocation_needs_a_reason_and_a_second_person(
    monkeypatch: pytest.MonkeyPatch, clients: Clients, site: ProjectState
) -> None:
    registry = site.ctx.registry
    assert isinstance(registry, MemoryRegistry)
    registry.tags["net", "1"] = {}
    release = sample.released()
    faces = (
        _command(monkeypatch, site, lambda person: decision.revoke("net", "1", person)),
        _request(clients, "approver", f"/v1/releases/{release.digest}/revocations", json={}),
        _request(clients, "approver", f"/releases/{release.digest}/revocations", data={"reason": ""}),
    )
    assert [face("bob") for face in faces] == ["the first request for this revocation needs a reason"] * 3
    decision.revoke("net", "1", "bob", "fails at night")
    assert [item.requested_by for item in site.ledger.find(RevocationRequest, release.digest)] == ["bob"]
    assert [face("Bob") for face in faces] == ["Bob requested this; another person must confirm it"] * 3
    assert faces[1]("cyd") == ""
    assert [item.confirmed_by for item in site.ledger.find(Revocation, release.digest)] == ["cyd"]


def test_what_is_about_another_model_or_in_the_future_is_refused(
    monkeypatch: pytest.MonkeyPatch, clients: Clients, site: ProjectState
) -> None:
    incident = {"model": "none", "harm": "death", "words": "A gate did not open.", "aware": "2026-11-21T00:00:00Z"}

    def command(person: str) -> None:
        statements.add_incident("none", "death", str(incident["aware"]), str(incident["words"]), person)

    faces = (
        _command(monkeypatch, site, command),
        _request(clients, "auditor", "/v1/incidents", json=incident),
        _request(clients, "auditor", "/statements/incidents", data=incident),
    )
    assert [face("eve") for face in faces] == ["the model none is not registered; register its parent first"] * 3
