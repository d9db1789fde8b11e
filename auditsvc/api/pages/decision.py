"""A decision with every rule and its evidence, the two-person rule in sight, and the buttons of those who may."""

from __future__ import annotations

import datetime

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.api.identity import site_of
from auditsvc.api.pages.forms import Form
from auditsvc.api.pages.taking_back import steps
from auditsvc.api.reading import ADigest
from auditsvc.api.releases import report_of
from auditsvc.api.rendering import page
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.errors import InvalidInput, NotFound
from auditsvc.pipeline.deciding import approve, waive
from auditsvc.records import Approval, Candidate, Decision, Monitoring, Policy, Release, Revocation, Submission, Waiver

router = APIRouter(route_class=RoleRoute, include_in_schema=False)


@router.get("/decisions/{digest}")
def decision(request: Request, digest: ADigest) -> HTMLResponse:
    """What the gate found, who consented, and what is missing."""
    site: Site = site_of(request)
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


def _submission(site: Site, found: Decision) -> Submission:
    submissions = site.ledger.find(Submission, found.candidate)
    if not submissions:
        raise NotFound("the candidate of this decision was never submitted")
    return submissions[-1]


@router.get("/decisions/{digest}/report")
def report(request: Request, digest: ADigest) -> Response:
    """The report of the version that this decision is about."""
    site: Site = site_of(request)
    submission = _submission(site, site.ledger.get(Decision, digest))
    return report_of(site, submission.model, submission.version)


@router.post("/decisions/{digest}/approve")
def approved(request: Request, digest: ADigest, given: Form) -> Response:
    """The button: consent under one's own name."""
    site: Site = site_of(request)
    approve(site.ledger.get(Decision, digest), request.state.caller.name, site.ports, given.get("comment", "")[:4000])
    return _back(digest)


@router.post("/decisions/{digest}/waive")
def waived(request: Request, digest: ADigest, given: Form) -> Response:
    """The other button: one rule, a reason, an end."""
    site: Site = site_of(request)
    try:
        until = datetime.date.fromisoformat(given.get("until", ""))
    except ValueError as error:
        raise InvalidInput("give the last day of the waiver as YYYY-MM-DD") from error
    if not given.get("reason", "").strip():
        raise InvalidInput("a waiver needs a reason; every report prints it")
    found = site.ledger.get(Decision, digest)
    waive(found, given.get("rule", ""), request.state.caller.name, given["reason"][:4000], until, site.ports)
    return _back(digest)


@router.post("/decisions/{digest}/release")
def sealed(request: Request, digest: ADigest) -> Response:
    """Seal what the gate approves and enough people consented to."""
    from auditsvc.pipeline.releasing import release

    site: Site = site_of(request)
    found = site.ledger.get(Decision, digest)
    release(site.ledger.get(Candidate, found.candidate), found, site.ports)
    return _back(digest)


def _back(digest: str) -> Response:
    return RedirectResponse(f"/decisions/{digest}", 303)
