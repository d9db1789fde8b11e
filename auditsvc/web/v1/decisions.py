"""Candidates and their evidence; decisions, their approvals, objections and waivers; the release of a candidate."""

from __future__ import annotations

import datetime
from typing import Annotated

from fastapi import Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from auditsvc.records import (
    Approval,
    Candidate,
    CheckFailed,
    Decision,
    Evidence,
    Name,
    Objection,
    Parent,
    Release,
    Submission,
    Text,
    Waiver,
)
from auditsvc.records.decision import ObjectionState
from auditsvc.services.decisions import approve, involved, waive
from auditsvc.services.objections import object_to
from auditsvc.web.auth.authentication import Router, require_independent, site_of
from auditsvc.web.record_routes import ADigest, created, record_router
from auditsvc.web.state import ProjectState

candidate_router = Router(tags=["candidates"])

record_router(
    candidate_router,
    Candidate,
    "candidates",
    about="A model's name, or the digest of a parent or of one of the candidate's files.",
)
record_router(candidate_router, Parent, "parents", about="A model's name.")
record_router(candidate_router, Submission, "submissions", about="A candidate's digest, or `model/version`.")
record_router(candidate_router, Evidence, "evidence", about="A candidate's digest.")
record_router(candidate_router, CheckFailed, "failed_checks", about="A candidate's digest.")

router = Router(tags=["decisions"])

record_router(router, Decision, "decisions", about="A candidate's digest, or `candidate|policy`, both as digests.")
record_router(router, Approval, "approvals", about="A decision's digest.")
record_router(router, Objection, "objections", about="A decision's digest.")
record_router(router, Waiver, "waivers", about="A candidate's digest.")


class ApprovalRequest(BaseModel):
    """The comment of an approval."""

    comment: Annotated[str, Field(max_length=4000)] = ""


class ObjectionRequest(BaseModel):
    """A rejection, a request for changes or the withdrawal of one, and the reason."""

    state: ObjectionState
    reason: Text


class WaiverRequest(BaseModel):
    """One rule, the reason that every report prints, and the last valid day."""

    rule: Name
    reason: Text
    until: datetime.date


@router.post("/v1/decisions/{digest}/approvals", needs="approver", creates=Approval, summary="Approve a decision")
def create_approval(request: Request, digest: ADigest, approval: ApprovalRequest) -> Response:
    """Approve under your name.

    The person who submitted the candidate can't approve it, and a person counts once: the database enforces both.
    Approving again returns the first approval.
    """
    site: ProjectState = site_of(request)
    decision = site.ledger.get(Decision, digest)
    person = require_independent(request, involved(site.ledger, decision))
    return created(approve(site.ctx, decision, person, approval.comment))


@router.post("/v1/decisions/{digest}/objections", needs="approver", creates=Objection, summary="Object to a decision")
def create_objection(request: Request, digest: ADigest, objection: ObjectionRequest) -> Response:
    """Reject the decision or request changes: it can't be approved or released until you withdraw the objection."""
    site: ProjectState = site_of(request)
    decision = site.ledger.get(Decision, digest)
    return created(object_to(site.ctx, decision, request.state.caller.name, objection.state, objection.reason))


@router.post("/v1/decisions/{digest}/waivers", needs="approver", creates=Waiver, summary="Waive a rule")
def create_waiver(request: Request, digest: ADigest, waiver: WaiverRequest) -> Response:
    """Take responsibility for one open rule of this decision. The decision of the next audit applies it."""
    site: ProjectState = site_of(request)
    decision = site.ledger.get(Decision, digest)
    person = require_independent(request, involved(site.ledger, decision))
    return created(waive(site.ctx, decision, waiver.rule, person, waiver.reason, waiver.until))


@router.post("/v1/decisions/{digest}/release", needs="auditor", creates=Release, summary="Release a candidate")
def create_release(request: Request, digest: ADigest) -> Response:
    """Signs, attests and logs the candidate of an approved decision, then moves the registry alias to it.

    Releasing again returns the same release.
    """
    from auditsvc.services.release import release

    site: ProjectState = site_of(request)
    decision = site.ledger.get(Decision, digest)
    return created(release(site.ctx, site.ledger.get(Candidate, decision.candidate), decision))
