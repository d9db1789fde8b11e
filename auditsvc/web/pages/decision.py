"""The page of a decision: every rule with its evidence, the approvals, and the buttons that the caller may use.

Revocation and rollback of the release each take two people.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from fastapi import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.errors import Conflict, InvalidInput, NotApproved, NotFound
from auditsvc.ports import Ledger
from auditsvc.records import (
    AliasMove,
    Approval,
    Candidate,
    Decision,
    Monitoring,
    Policy,
    Release,
    Revocation,
    RevocationRequest,
    RollbackRequest,
    Submission,
    Waiver,
    person_key,
)
from auditsvc.services.decisions import approve, involved, waive
from auditsvc.services.revocation import (
    pending_revocation,
    pending_rollback,
    request_or_confirm_revocation,
    request_or_confirm_rollback,
    requesters,
)
from auditsvc.services.terms import audited_data, open_alarm, past_decisions, require_binding
from auditsvc.web.auth.authentication import Router, require_independent, site_of
from auditsvc.web.auth.permissions import Caller
from auditsvc.web.pages.overview import consent_of
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import Form, page
from auditsvc.web.state import ProjectState
from auditsvc.web.v1.releases import report_of

router = Router(include_in_schema=False)


@router.post("/releases/{digest}/revocations", needs="approver")
def create_revocation(request: Request, digest: ADigest, given: Form) -> Response:
    """Request a revocation with a reason, or confirm the request of another person."""
    site = site_of(request)
    release = site.ledger.get(Release, digest)
    person = require_independent(request, requesters(pending_revocation(site.ledger, release)))
    request_or_confirm_revocation(site.ctx, release, person, _reason(given))
    return _back(release.decision)


@router.post("/releases/{digest}/rollbacks", needs="approver")
def create_rollback(request: Request, digest: ADigest, given: Form) -> Response:
    """Request a rollback to this release with a reason, or confirm the request of another person."""
    site = site_of(request)
    release = site.ledger.get(Release, digest)
    person = require_independent(request, requesters(pending_rollback(site.ledger, release)))
    request_or_confirm_rollback(site.ctx, release, person, _reason(given))
    return _back(release.decision)


def _reason(given: dict[str, str]) -> str | None:
    return given.get("reason", "").strip()[:4000] or None


@dataclass(frozen=True)
class ReleaseAction:
    """A revocation or a rollback on the page: its button, what it does, and who requested it already."""

    path: str
    name: str
    title: str
    effect: str
    pending: RevocationRequest | RollbackRequest | None
    allowed: bool


def release_actions(site: ProjectState, release: Release | None, caller: Caller) -> list[ReleaseAction]:
    """What can be done about a release that is not revoked, and whether the caller can do it."""
    ledger = site.ledger
    if release is None or ledger.find(Revocation, release.digest):
        return []

    def action(name: str, effect: str, pending: RevocationRequest | RollbackRequest | None) -> ReleaseAction:
        own = pending is not None and person_key(pending.requested_by) == person_key(caller.name)
        path = f"/releases/{release.digest}/{name}s"
        return ReleaseAction(path, name, name.capitalize(), effect, pending, caller.may("approver") and not own)

    found = [action("revocation", "The release must no longer be used.", pending_revocation(ledger, release))]
    moves = ledger.find(AliasMove, release.model)
    at = moves[-1].version if moves else None
    if at != release.version:
        effect = f"The registry alias moves from {f'version {at}' if at else 'no version'} to this version."
        found.append(action("rollback", effect, pending_rollback(ledger, release)))
    return found


@router.get("/decisions/{digest}", needs="reader")
def decision_page(request: Request, digest: ADigest) -> HTMLResponse:
    """Every rule with its finding, the approvals, and what is missing."""
    site = site_of(request)
    ledger, caller = site.ledger, request.state.caller
    found = ledger.get(Decision, digest)
    submission = _submission(site, found)
    policy = ledger.get(Policy, found.policy)
    approvals = ledger.find(Approval, digest)
    releases = ledger.find(Release, digest)
    newest = [one for one in ledger.find(Decision, f"{found.candidate}|{found.policy}") if one.supersedes(found)][-1]
    consent, counts = consent_of(ledger, found), _counts(ledger, found)
    others = {item.approver.lower() for item in approvals} | {submission.submitter.lower()}
    return page(
        request,
        "decision.html",
        "/",
        decision=found,
        submission=submission,
        policy=policy,
        rules={rule.rule: rule for rule in policy.rules},
        met=[item for item in found.judgements if item.verdict == "met"],
        approvals=approvals,
        missing=max(0, consent.approvals - len(approvals)),
        data=audited_data(ledger, found),
        past=[one for one in past_decisions(ledger, found.candidate)[::-1] if one.decision != digest],
        obstacle=counts,
        alarm=open_alarm(ledger, releases[-1]) if releases else None,
        waivers=ledger.find(Waiver, found.candidate),
        release=releases[-1] if releases else None,
        actions=release_actions(site, releases[-1] if releases else None, caller),
        revocations=ledger.find(Revocation, releases[-1].digest) if releases else (),
        monitoring=ledger.find(Monitoring, releases[-1].digest)[::-1] if releases else (),
        newest=newest,
        may_approve=caller.may("approver")
        and caller.name.lower() not in others
        and found.outcome == "approved"
        and not counts,
        may_waive=caller.may("approver") and caller.name.lower() != submission.submitter.lower(),
        may_release=caller.may("auditor") and len(approvals) >= consent.approvals and not (releases or counts),
        tomorrow=(site.clock.now() + datetime.timedelta(days=1)).date(),
    )


def _counts(ledger: Ledger, decision: Decision) -> str:
    """Why this decision can't be approved or released now; empty if it can."""
    try:
        require_binding(ledger, decision)
    except (Conflict, NotApproved) as error:
        return str(error)
    return ""


def _submission(site: ProjectState, found: Decision) -> Submission:
    submissions = site.ledger.find(Submission, found.candidate)
    if not submissions:
        raise NotFound("the candidate of this decision was never submitted")
    return submissions[-1]


@router.get("/decisions/{digest}/report", needs="reader")
def decision_report(request: Request, digest: ADigest) -> Response:
    """The report of the version that this decision is about."""
    site = site_of(request)
    submission = _submission(site, site.ledger.get(Decision, digest))
    return report_of(site, digest, submission.model, submission.version)


@router.post("/decisions/{digest}/approvals", needs="approver")
def create_approval(request: Request, digest: ADigest, given: Form) -> Response:
    """Approve the decision under the caller's name."""
    site = site_of(request)
    found = site.ledger.get(Decision, digest)
    person = require_independent(request, involved(site.ledger, found))
    approve(site.ctx, found, person, given.get("comment", "")[:4000])
    return _back(digest)


@router.post("/decisions/{digest}/waivers", needs="approver")
def create_waiver(request: Request, digest: ADigest, given: Form) -> Response:
    """Waive one rule, with a reason, until a date."""
    site = site_of(request)
    try:
        until = datetime.date.fromisoformat(given.get("until", ""))
    except ValueError as error:
        raise InvalidInput("give the last day of the waiver as YYYY-MM-DD") from error
    if not given.get("reason", "").strip():
        raise InvalidInput("a waiver needs a reason, which every report prints")
    found = site.ledger.get(Decision, digest)
    person = require_independent(request, involved(site.ledger, found))
    waive(site.ctx, found, given.get("rule", ""), person, given["reason"][:4000], until)
    return _back(digest)


@router.post("/decisions/{digest}/release", needs="auditor")
def create_release(request: Request, digest: ADigest) -> Response:
    """Sign, attest and log the candidate of an approved decision."""
    from auditsvc.services.release import release

    site = site_of(request)
    found = site.ledger.get(Decision, digest)
    release(site.ctx, site.ledger.get(Candidate, found.candidate), found)
    return _back(digest)


def _back(digest: str) -> Response:
    return RedirectResponse(f"/decisions/{digest}", 303)
