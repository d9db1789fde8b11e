"""The home page: submissions that wait for people, that are released, and that are not."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from starlette.responses import HTMLResponse

from auditsvc.ports import Ledger
from auditsvc.records import Approval, Candidate, Decision, Policy, ReleaseTerms, Submission
from auditsvc.services.gate_query import GateAnswer, query_gate
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.permissions import Caller
from auditsvc.web.rendering import page
from auditsvc.web.state import ProjectState

router = Router(include_in_schema=False)

SHOWN = 50
"""Submissions on the page, newest first; the API has all."""


@dataclass(frozen=True)
class Row:
    """One submission and its state."""

    submission: Submission
    candidate: Candidate
    answer: GateAnswer
    decision: Decision | None
    approvers: tuple[str, ...]
    required: int

    @property
    def pending(self) -> bool:
        """Approved by the gate under the terms, and not released yet."""
        decision, released = self.decision, self.answer.release is not None
        return decision is not None and not decision.trial and decision.outcome == "approved" and not released

    def awaits(self, caller: Caller) -> bool:
        """Whether the caller can act next: approve it, or release it once it has enough approvals."""
        if not self.pending:
            return False
        if len(self.approvers) >= self.required:
            return caller.may("auditor")
        involved = {name.lower() for name in (*self.approvers, self.submission.submitter)}
        return caller.may("approver") and caller.name.lower() not in involved

    @property
    def recipe(self) -> str:
        """The recipe in one line."""
        recipe = self.candidate.recipe
        if recipe is None:
            return "pruned elsewhere"
        return ", ".join([recipe.method, *(f"{name} {value:g}" for name, value in recipe.targets.items())])


def consent_of(ledger: Ledger, decision: Decision) -> ReleaseTerms | Policy:
    """What says how many people approve: the terms of the decision, or its policy."""
    return ledger.get(ReleaseTerms, decision.terms) if decision.terms else ledger.get(Policy, decision.policy)


def row_of(site: ProjectState, submission: Submission) -> Row:
    """The state of one submission now."""
    ledger = site.ledger
    answer = query_gate(ledger, submission.model, submission.version)
    known = () if answer.decision else ledger.find(Decision, submission.candidate)
    decision = ledger.get(Decision, answer.decision) if answer.decision else next(reversed(known), None)
    approvers = tuple(item.approver for item in ledger.find(Approval, decision.digest)) if decision else ()
    required = consent_of(ledger, decision).approvals if decision else 0
    candidate = ledger.get(Candidate, submission.candidate)
    return Row(submission, candidate, answer, decision, approvers, required)


@router.get("/", needs="reader")
def overview(request: Request) -> HTMLResponse:
    """The newest submissions, grouped by what happens next."""
    site = site_of(request)
    rows = [row_of(site, item) for _, item in site.ledger.page(Submission, limit=SHOWN)]
    caller = request.state.caller
    groups = (
        ("Awaiting you", "You can approve or release these.", [row for row in rows if row.awaits(caller)]),
        (
            "Awaiting approval or release",
            "The gate approves these; approvals or the release are missing.",
            [row for row in rows if row.pending and not row.awaits(caller)],
        ),
        (
            "Needs review",
            "Released, and a newer binding decision does not approve it: revoke it or roll back.",
            [row for row in rows if row.answer.review],
        ),
        (
            "Released",
            "Signed, and not revoked.",
            [row for row in rows if row.answer.answer == "approved" and not row.answer.review],
        ),
        (
            "Not released",
            "Rejected by a rule, not decided yet, or revoked.",
            [row for row in rows if not row.pending and row.answer.answer != "approved"],
        ),
    )
    return page(request, "overview.html", "/", groups=groups, empty=not rows, most=SHOWN)
