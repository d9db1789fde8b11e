"""The first page: what waits for people, what is released, what was refused."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from auditsvc.records import Approval, Candidate, Decision, Policy, Submission
from auditsvc.services.gate_query import GateAnswer, query_gate
from auditsvc.web.authentication import site_of
from auditsvc.web.caller import Caller
from auditsvc.web.rendering import page
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

router = APIRouter(route_class=RoleRoute, include_in_schema=False)

SHOWN = 50
"""Submissions on the page, newest first; the API has all."""


@dataclass(frozen=True)
class Row:
    """One submission and how it stands."""

    submission: Submission
    candidate: Candidate
    answer: GateAnswer
    decision: Decision | None
    consents: tuple[str, ...]
    wanted: int

    @property
    def waits(self) -> bool:
        """The gate approves it, and people have not released it yet."""
        return self.decision is not None and self.decision.outcome == "approved" and self.answer.release is None

    def waits_for(self, caller: Caller) -> bool:
        """Whether it is this caller's turn: to consent, or to seal what enough people consented to."""
        if not self.waits:
            return False
        if len(self.consents) >= self.wanted:
            return caller.may("auditor")
        there = {name.lower() for name in (*self.consents, self.submission.submitter)}
        return caller.may("approver") and caller.name.lower() not in there

    @property
    def recipe(self) -> str:
        """How it was made, in a few words."""
        recipe = self.candidate.recipe
        if recipe is None:
            return "pruned elsewhere"
        return ", ".join([recipe.method, *(f"{name} {value:g}" for name, value in recipe.targets.items())])


def row_of(site: ProjectState, submission: Submission) -> Row:
    """How one submission stands now."""
    ledger = site.ledger
    answer = query_gate(ledger, submission.model, submission.version)
    decision = ledger.get(Decision, answer.decision) if answer.decision else None
    consents = tuple(item.approver for item in ledger.find(Approval, decision.digest)) if decision else ()
    wanted = ledger.get(Policy, decision.policy).approvals if decision else 0
    candidate = ledger.get(Candidate, submission.candidate)
    return Row(submission, candidate, answer, decision, consents, wanted)


@router.get("/")
def overview(request: Request) -> HTMLResponse:
    """Everything that was submitted lately, by what is to be done about it."""
    site: ProjectState = site_of(request)
    rows = [row_of(site, item) for _, item in site.ledger.page(Submission, limit=SHOWN)]
    caller = request.state.caller
    groups = (
        ("Waits for you", "You can consent to it, or seal it.", [row for row in rows if row.waits_for(caller)]),
        (
            "Waits for people",
            "The gate approves; consent and sealing are missing.",
            [row for row in rows if row.waits and not row.waits_for(caller)],
        ),
        ("Released", "Sealed, and not recalled.", [row for row in rows if row.answer.answer == "approved"]),
        (
            "Not released",
            "Refused by a rule, not decided, or recalled.",
            [row for row in rows if not row.waits and row.answer.answer != "approved"],
        ),
    )
    return page(request, "overview.html", "/", groups=groups, empty=not rows, most=SHOWN)
