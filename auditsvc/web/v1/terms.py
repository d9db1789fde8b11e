"""Terms of a model: which policy, data and approvers bind it; proposed by one approver, confirmed by another.

The rules are in ``auditsvc.services.terms``.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from auditsvc.records import Digest, Name, ReleaseTerms, TermsProposal
from auditsvc.services.terms import TermsDraft, binding_terms, confirm_terms, pending_terms, propose_terms
from auditsvc.web.auth.authentication import Router, require_independent, site_of
from auditsvc.web.record_routes import ADigest, created, record_router

router = Router(tags=["terms"])

record_router(router, ReleaseTerms, "terms", singular="terms", about="A model's name.")
record_router(router, TermsProposal, "terms_proposals", about="A model's name.")

AModel = Annotated[Name, Path(description="The model's name in the registry.")]


class TermsRequest(TermsDraft):
    """The terms that are proposed; what is left out is taken from the policy."""

    policy: Annotated[Name | Digest, Field(description="A policy of the ledger by digest, or a shipped one by name.")]


class TermsStatus(BaseModel):
    """The terms that bind a model, and a proposal that waits for another person."""

    digest: Digest | None = None
    terms: ReleaseTerms | None = None
    proposal: Digest | None = None
    pending: TermsProposal | None = None


@router.get("/v1/models/{model}/terms", needs="reader", summary="Get the terms of a model")
def get_model_terms(request: Request, model: AModel) -> TermsStatus:
    """Without terms every decision on the model is a trial: it can't be approved or released."""
    ledger = site_of(request).ledger
    terms, pending = binding_terms(ledger, model), pending_terms(ledger, model)
    return TermsStatus(
        digest=terms.digest if terms else None,
        terms=terms,
        proposal=pending.digest if pending else None,
        pending=pending,
    )


@router.post(
    "/v1/models/{model}/terms",
    needs="approver",
    creates=TermsProposal,
    summary="Propose the terms of a model",
)
def create_terms_proposal(request: Request, model: AModel, terms: TermsRequest) -> Response:
    """Nothing changes until another approver confirms it."""
    from auditsvc.services.policies import resolve_remote_policy

    site = site_of(request)
    draft = TermsDraft.model_validate(terms.model_dump(exclude={"policy"}))
    made = propose_terms(
        site.ctx, model, resolve_remote_policy(terms.policy, site.ledger), draft, request.state.caller.name
    )
    return created(made)


@router.post(
    "/v1/terms-proposals/{digest}/confirmations",
    needs="approver",
    creates=ReleaseTerms,
    summary="Confirm the terms of a model",
)
def create_terms_confirmation(request: Request, digest: ADigest) -> Response:
    """From then on they bind the model. The person who proposed them can't confirm them."""
    site = site_of(request)
    proposal = site.ledger.get(TermsProposal, digest)
    person = require_independent(request, (proposal.proposed_by,))
    return created(confirm_terms(site.ctx, proposal, person))
