"""The home page: what needs people, with counts; and the page of all models."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from fastapi import Request
from starlette.responses import HTMLResponse

from auditsvc.compliance.assessment.attestations import Incident, current
from auditsvc.ports import View
from auditsvc.records import (
    Approval,
    Candidate,
    Decision,
    Parent,
    Policy,
    ReleaseTerms,
    Submission,
    TermsProposal,
    person_key,
)
from auditsvc.services.decisions import involved
from auditsvc.services.gate_query import GateAnswer, answer_of
from auditsvc.services.terms import pending_terms
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.token_store import Caller
from auditsvc.web.pages.statements import statement_cards
from auditsvc.web.rendering import page
from auditsvc.web.state import ProjectState

router = Router(include_in_schema=False)

SHOWN, NAMED, KEPT = 50, 3, 500
"""Submissions on the page, newest first; rules that a row names; states of versions that are kept."""


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

    @property
    def reason(self) -> str:
        """Why it is not approved: the required rules that are not met, or what the gate says."""
        decision = self.decision
        if decision is None or decision.trial or decision.outcome == "approved":
            return self.answer.reasons[0] if self.answer.reasons else ""
        failed = decision.outcome == "rejected"
        wanted = "violated" if failed else "unknown"
        found = [one for one in decision.findings if one.severity == "block" and one.waiver is None]
        rules = list(dict.fromkeys(one.rule for one in found if one.verdict == wanted))
        more = f" and {len(rules) - NAMED} more" if len(rules) > NAMED else ""
        return f"{'Failed' if failed else 'Undecided'} required rules: {', '.join(rules[:NAMED])}{more}"


def consent_of(ledger: View, decision: Decision) -> ReleaseTerms | Policy:
    """What says how many people approve: the terms of the decision, or its policy."""
    return ledger.get(ReleaseTerms, decision.terms) if decision.terms else ledger.get(Policy, decision.policy)


def rows_of(site: ProjectState, submissions: Iterable[Submission]) -> list[Row]:
    """The states of these submissions; kept until the log grows."""
    size = site.ledger.size()
    if site.recent[0] != size or len(site.recent[1]) > KEPT:
        site.recent = (size, {})
    known, found = site.recent[1], []
    with site.ledger.snapshot() as view:
        for one in submissions:
            if one.digest not in known:
                known[one.digest] = _row(view, one)
            found.append(known[one.digest])
    return found


def _row(view: View, submission: Submission) -> Row:
    answer = answer_of(view, submission.model, submission.version)
    known = () if answer.decision else view.find(Decision, submission.candidate)
    decision = view.get(Decision, answer.decision) if answer.decision else next(reversed(known), None)
    approvers = tuple(item.approver for item in view.find(Approval, decision.digest)) if decision else ()
    required = consent_of(view, decision).approvals if decision else 0
    candidate = view.get(Candidate, submission.candidate)
    names = involved(view, decision) if decision else ()
    return Row(submission, candidate, answer, decision, approvers, frozenset(map(person_key, names)), required)


@dataclass(frozen=True)
class Tile:
    """One count of the home page: what it counts, and where its list is."""

    count: int
    title: str
    href: str


@router.get("/", needs="reader")
def overview(request: Request) -> HTMLResponse:
    """What needs the caller, what needs others, alarms, running jobs, and the newest versions."""
    site, caller = site_of(request), request.state.caller
    rows = rows_of(site, [item for _, item in site.ledger.page(Submission, limit=SHOWN)])
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
    terms = _terms_to_confirm(site, caller)
    reviews = sum(card.awaits(caller) for card in statement_cards(site))
    tiles[1:1] = [
        Tile(len(terms), "Terms to confirm", f"/models/{terms[0]}#terms" if terms else "/models"),
        Tile(reviews, "Statements to review", "/statements"),
    ]
    tiles += [
        Tile(len(due), "Incidents to report", "/statements"),
        Tile(len(running), "Jobs running or queued", "/jobs"),
    ]
    return page(request, "overview.html", "/", groups=groups, tiles=tiles, empty=not rows, most=SHOWN)


def _terms_to_confirm(site: ProjectState, caller: Caller) -> list[str]:
    """The models whose newest terms another person proposed, where the caller can confirm them."""
    if not caller.may("approver"):
        return []
    with site.ledger.snapshot() as view:
        models = dict.fromkeys(one.model for _, one in view.page(TermsProposal, limit=SHOWN))
        found = [one for model in models if (one := pending_terms(view, model))]
    return [one.model for one in found if person_key(one.proposed_by) != person_key(caller.name)]


MODELS = 20
SEARCHED, LOOKED_AT = 2000, 200
"""Models on one page; registered parents that a search reads, and those whose newest version a filter looks at."""


@router.get("/models", needs="reader")
def models_page(
    request: Request, q: str = "", task: str = "", verdict: str = "", owner: str = "", before: int | None = None
) -> HTMLResponse:
    """The models, newest first, in pages; a search continues on the next page where it read its part."""
    site, words, person = site_of(request), q.strip().lower()[:100], person_key(owner.strip()[:100])
    filtered = bool(verdict or person)
    limit = SEARCHED if words or task or filtered else MODELS + 1
    chosen: dict[str, Parent] = {}
    newest: dict[str, Submission | None] = {}
    last = None
    with site.ledger.snapshot() as view:
        for position, one in view.page(Parent, before=before, limit=limit):
            if one.model not in newest and words in one.model.lower() and task in ("", one.task):
                if len(chosen) == MODELS or len(newest) == LOOKED_AT:
                    break
                submitted = newest[one.model] = _newest(view, one.model)
                if not filtered or (submitted and _fits(rows_of(site, [submitted])[0], verdict, person)):
                    chosen[one.model] = one
            last = position
        states = {row.submission.model: row for row in rows_of(site, filter(None, map(newest.get, chosen)))}
    rows = [(one, states.get(model)) for model, one in chosen.items()]
    more = last if last is not None and site.ledger.page(Parent, before=last, limit=1) else None
    asked: dict[str, Any] = {"q": q, "task": task, "verdict": verdict, "owner": owner}
    older = urlencode({name: text for name, text in asked.items() if text} | {"before": more}) if more else ""
    return page(request, "models.html", "/models", rows=rows, older=older, **asked)


def _newest(view: View, model: str) -> Submission | None:
    """The submission of the newest candidate of this model."""
    for _, candidate in view.page(Candidate, subject=model, limit=1):
        return next(reversed(view.find(Submission, candidate.digest)), None)
    return None


def _fits(row: Row, verdict: str, person: str) -> bool:
    state = "pending" if row.pending else row.answer.answer
    return verdict in ("", state) and person in ("", person_key(row.submission.submitter))
