"""A decision with every rule and its evidence, the two-person rule in sight, and the buttons of those who may.

The two buttons beside a release: recall it, or let the alias go back to it.  Each takes two people.
"""

from __future__ import annotations

import datetime
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.errors import InvalidInput, NotFound
from auditsvc.records import (
    AliasMove,
    Approval,
    Candidate,
    Decision,
    Monitoring,
    Policy,
    Release,
    Revocation,
    Submission,
    Waiver,
)
from auditsvc.services.decisions import approve, waive
from auditsvc.web.authentication import site_of
from auditsvc.web.caller import Caller
from auditsvc.web.pages.forms import Form
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import page
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState
from auditsvc.web.v1.releases import (
    RECALLS,
    RETURNS,
    PendingRequestView,
    report_of,
    request_or_confirm_revocation,
    request_or_confirm_rollback,
)

router = APIRouter(route_class=RoleRoute, include_in_schema=False)


@router.post("/releases/{digest}/recall")
def recalled(request: Request, digest: ADigest, given: Form) -> Response:
    """Ask for a recall with a reason, or confirm somebody else's."""
    site: ProjectState = site_of(request)
    release = site.ledger.get(Release, digest)
    request_or_confirm_revocation(site, release, request.state.caller.name, _reason(given))
    return RedirectResponse(f"/decisions/{release.decision}", 303)


@router.post("/releases/{digest}/return")
def returned(request: Request, digest: ADigest, given: Form) -> Response:
    """Ask to go back to this release with a reason, or confirm it."""
    site: ProjectState = site_of(request)
    release = site.ledger.get(Release, digest)
    request_or_confirm_rollback(site, release, request.state.caller.name, _reason(given))
    return RedirectResponse(f"/decisions/{release.decision}", 303)


def _reason(given: dict[str, str]) -> str | None:
    return given.get("reason", "").strip()[:4000] or None


def steps(site: ProjectState, release: Release | None, caller: Caller) -> list[dict[str, Any]]:
    """What may be done about a release: the verb, what it does in words, who asked, and whether this person may act."""
    if release is None or site.ledger.find(Revocation, release.digest):
        return []
    moves = site.ledger.find(AliasMove, release.model)
    at = moves[-1].version if moves else None
    found = [_step(site, release, caller, RECALLS, "recall", "Recall", "It must not be used any more.")]
    if at != release.version:
        words = f"The alias goes from {f'version {at}' if at else 'nowhere'} to this version."
        found.append(_step(site, release, caller, RETURNS, "return", "Go back to this version", words))
    return found


def _step(
    site: ProjectState, release: Release, caller: Caller, waiting: PendingRequestView, verb: str, title: str, words: str
) -> dict[str, Any]:
    asked = waiting.asked_of(site, release.digest)
    own = asked is not None and asked.person.lower() == caller.name.lower()
    return {
        "path": f"/releases/{release.digest}/{verb}",
        "verb": verb,
        "title": title,
        "words": words,
        "asked": asked,
        "may": caller.may("approver") and not own,
    }


@router.get("/decisions/{digest}")
def decision(request: Request, digest: ADigest) -> HTMLResponse:
    """What the gate found, who consented, and what is missing."""
    site: ProjectState = site_of(request)
    ledger, caller = site.ledger, request.state.caller
    found = ledger.get(Decision, digest)
    submission = _submission(site, found)
    policy = ledger.get(Policy, found.policy)
    approvals = ledger.find(Approval, digest)
    releases = ledger.find(Release, digest)
    newest = ledger.find(Decision, f"{found.candidate}|{found.policy}")[-1]
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
        missing=max(0, policy.approvals - len(approvals)),
        waivers=ledger.find(Waiver, found.candidate),
        release=releases[-1] if releases else None,
        steps=steps(site, releases[-1] if releases else None, caller),
        revocations=ledger.find(Revocation, releases[-1].digest) if releases else (),
        looks=ledger.find(Monitoring, releases[-1].digest)[::-1] if releases else (),
        newest=newest,
        may_approve=caller.may("approver") and caller.name.lower() not in others and found.outcome == "approved",
        may_waive=caller.may("approver") and caller.name.lower() != submission.submitter.lower(),
        may_release=caller.may("auditor") and len(approvals) >= policy.approvals and not releases,
        tomorrow=(site.clock.now() + datetime.timedelta(days=1)).date(),
    )


def _submission(site: ProjectState, found: Decision) -> Submission:
    submissions = site.ledger.find(Submission, found.candidate)
    if not submissions:
        raise NotFound("the candidate of this decision was never submitted")
    return submissions[-1]


@router.get("/decisions/{digest}/report")
def report(request: Request, digest: ADigest) -> Response:
    """The report of the version that this decision is about."""
    site: ProjectState = site_of(request)
    submission = _submission(site, site.ledger.get(Decision, digest))
    return report_of(site, submission.model, submission.version)


@router.post("/decisions/{digest}/approve")
def approved(request: Request, digest: ADigest, given: Form) -> Response:
    """The button: consent under one's own name."""
    site: ProjectState = site_of(request)
    approve(site.ctx, site.ledger.get(Decision, digest), request.state.caller.name, given.get("comment", "")[:4000])
    return _back(digest)


@router.post("/decisions/{digest}/waive")
def waived(request: Request, digest: ADigest, given: Form) -> Response:
    """The other button: one rule, a reason, an end."""
    site: ProjectState = site_of(request)
    try:
        until = datetime.date.fromisoformat(given.get("until", ""))
    except ValueError as error:
        raise InvalidInput("give the last day of the waiver as YYYY-MM-DD") from error
    if not given.get("reason", "").strip():
        raise InvalidInput("a waiver needs a reason; every report prints it")
    found = site.ledger.get(Decision, digest)
    waive(site.ctx, found, given.get("rule", ""), request.state.caller.name, given["reason"][:4000], until)
    return _back(digest)


@router.post("/decisions/{digest}/release")
def sealed(request: Request, digest: ADigest) -> Response:
    """Seal what the gate approves and enough people consented to."""
    from auditsvc.services.release import release

    site: ProjectState = site_of(request)
    found = site.ledger.get(Decision, digest)
    release(site.ctx, site.ledger.get(Candidate, found.candidate), found)
    return _back(digest)


def _back(digest: str) -> Response:
    return RedirectResponse(f"/decisions/{digest}", 303)
