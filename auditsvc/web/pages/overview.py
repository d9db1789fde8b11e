"""The home page: what needs people, with counts; and the page of all models."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from starlette.responses import HTMLResponse

from auditsvc.compliance.assessment.attestations import Incident, current
from auditsvc.ports import Ledger
from auditsvc.records import Approval, Candidate, Decision, Parent, Policy, ReleaseTerms, Submission, person_key
from auditsvc.services.decisions import involved
from auditsvc.services.gate_query import GateAnswer, query_gate
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.token_store import Caller
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
    involved: frozenset[str]
    """Who submitted, waived or approved, as ``person_key``: another person acts next."""
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
        return caller.may("approver") and person_key(caller.name) not in self.involved

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
    names = involved(ledger, decision) if decision else ()
    return Row(submission, candidate, answer, decision, approvers, frozenset(map(person_key, names)), required)


@dataclass(frozen=True)
class Tile:
    """One count of the home page: what it counts, and where its list is."""

    count: int
    title: str
    href: str


def rows_of(site: ProjectState) -> list[Row]:
    """The newest submissions with their states; made again where the log grew."""
    size = site.ledger.size()
    if site.recent is None or site.recent[0] != size:
        site.recent = (size, [row_of(site, item) for _, item in site.ledger.page(Submission, limit=SHOWN)])
    return list(site.recent[1])


@router.get("/", needs="reader")
def overview(request: Request) -> HTMLResponse:
    """What needs the caller, what needs others, alarms, running jobs, and the newest versions."""
    site, caller = site_of(request), request.state.caller
    rows = rows_of(site)
    running = [job for state in ("running", "queued") for job in site.jobs.page(state=state, limit=SHOWN)]
    due = [one for one in current(item for _, item in reversed(site.ledger.page(Incident, limit=SHOWN)))
           if one.reported is None]  # fmt: skip
    groups = (
        ("you", "Waiting for you", "You can approve, or sign and publish, these.", [
            row for row in rows if row.awaits(caller)]),
        ("review", "Needs review", "Released, and a newer binding decision does not approve it: revoke or roll back.", [
            row for row in rows if row.answer.review]),
        ("others", "Waiting for others", "The gate approves these; approvals or the signature are missing.", [
            row for row in rows if row.pending and not row.awaits(caller)]),
        ("released", "Released", "Signed, and not revoked.", [
            row for row in rows if row.answer.answer == "approved" and not row.answer.review]),
        ("not-released", "Not released", "Rejected, not decided yet, or revoked.", [
            row for row in rows if not row.pending and row.answer.answer != "approved"]),
    )  # fmt: skip
    tiles = [Tile(len(found), title, f"#{name}") for name, title, _, found in groups[:3]]
    tiles += [
        Tile(len(due), "Incidents to report", "/statements"),
        Tile(len(running), "Jobs running or queued", "/jobs"),
    ]
    return page(request, "overview.html", "/", groups=groups, tiles=tiles, empty=not rows, most=SHOWN)


MODELS = 20
SEARCHED = 2000
"""Models on one page, and how many registered parents a search reads."""


@router.get("/models", needs="reader")
def models_page(request: Request, q: str = "", task: str = "", before: int | None = None) -> HTMLResponse:
    """The models, newest first, in pages; a search reads the newest parents."""
    ledger, words = site_of(request).ledger, q.strip().lower()[:100]
    found: dict[str, tuple[int, Parent]] = {}
    limit = SEARCHED if words or task else MODELS + 1
    last = None
    for position, one in ledger.page(Parent, before=before, limit=limit):
        if one.model not in found and words in one.model.lower() and task in ("", one.task):
            if len(found) == MODELS:
                break
            found[one.model] = (position, one)
        last = position
    rows: list[tuple[Parent, Submission | None, GateAnswer | None]] = []
    for _, one in found.values():
        newest = ledger.page(Candidate, subject=one.model, limit=1)
        known = ledger.find(Submission, newest[0][1].digest) if newest else ()
        rows.append((one, known[-1], query_gate(ledger, one.model, known[-1].version)) if known else (one, None, None))
    more = last if last is not None and ledger.page(Parent, before=last, limit=1) else None
    return page(request, "models.html", "/models", rows=rows, q=q, task=task, more=more)
