"""Decisions, and what named people do about them: consent, waive a rule, have it sealed."""

from __future__ import annotations

import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from auditsvc.records import Approval, Candidate, Decision, Name, Release, Text, Waiver
from auditsvc.services.decisions import approve, waive
from auditsvc.web.authentication import site_of
from auditsvc.web.record_routes import ADigest, get_record, record_router
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

router = APIRouter(route_class=RoleRoute, tags=["decisions"])

record_router(
    router,
    Decision,
    "/v1/decisions",
    many="Decisions",
    about="of",
    means="A candidate's digest, or `candidate|policy`, both as digests.",
)
record_router(router, Approval, "/v1/approvals", many="Approvals", about="of", means="A decision's digest.")
record_router(router, Waiver, "/v1/waivers", many="Waivers", about="of", means="A candidate's digest.")


class Consent(BaseModel):
    """What goes with an approval."""

    comment: Annotated[str, Field(max_length=4000)] = ""


class Waiving(BaseModel):
    """One rule, a reason that every report prints, and the last day that it holds."""

    rule: Name
    reason: Text
    until: datetime.date


@router.post("/v1/decisions/{digest}/approvals", status_code=201, response_model=Approval, summary="Consent")
def consent(request: Request, digest: ADigest, given: Consent) -> Response:
    """The token's holder consents to this decision.

    Who submitted the candidate can't, and nobody counts twice: the database refuses it.  Consenting again gives the
    first approval.
    """
    site: ProjectState = site_of(request)
    decision = site.ledger.get(Decision, digest)
    made = approve(site.ctx, decision, request.state.caller.name, given.comment)
    return get_record(request, made, 201, "/v1/approvals")


@router.post("/v1/decisions/{digest}/waivers", status_code=201, response_model=Waiver, summary="Waive one rule")
def take(request: Request, digest: ADigest, given: Waiving) -> Response:
    """The token's holder takes one open rule of this decision upon themselves.  The next audit's decision counts it."""
    site: ProjectState = site_of(request)
    decision = site.ledger.get(Decision, digest)
    made = waive(site.ctx, decision, given.rule, request.state.caller.name, given.reason, given.until)
    return get_record(request, made, 201, "/v1/waivers")


@router.post("/v1/decisions/{digest}/release", status_code=201, response_model=Release, summary="Seal and release")
def seal(request: Request, digest: ADigest) -> Response:
    """Sign, attest and log the candidate of an approved decision, and move the registry's alias to it.

    Doing it again gives the same release.
    """
    from auditsvc.services.release import release

    site: ProjectState = site_of(request)
    decision = site.ledger.get(Decision, digest)
    made = release(site.ctx, site.ledger.get(Candidate, decision.candidate), decision)
    return get_record(request, made, 201, "/v1/releases")
