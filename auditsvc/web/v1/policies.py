"""Policies, the frameworks that reports map evidence to, and the terms of each model.

Of policies there are those in use, the built-in ones, and a backtest of another policy on past decisions.  Terms say
which policy, data and approvers bind a model; one approver proposes them, another confirms them
(``auditsvc.services.terms``).
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from auditsvc.compliance.assessment.framework import Framework, load_frameworks
from auditsvc.errors import NotFound
from auditsvc.records import Digest, Name, Policy, ReleaseTerms, TermsProposal
from auditsvc.resources import resource_dir
from auditsvc.services.decisions import BacktestRow, backtest
from auditsvc.services.terms import TermsDraft, binding_terms, confirm_terms, pending_terms, propose_terms
from auditsvc.web.auth.authentication import Router, require_independent, site_of
from auditsvc.web.record_routes import ADigest, created, record_router

router = Router(tags=["policies"])


class FrameworkSummary(BaseModel):
    """A framework without its requirements."""

    framework: Name
    name: str
    version: str
    standing: str
    requirements: int


@router.get("/v1/frameworks", needs="reader", summary="List frameworks")
def list_frameworks(request: Request) -> list[FrameworkSummary]:  # noqa: ARG001 - a route with a role takes its request
    """Every framework, with the date on which a person last compared it with its source."""
    found = load_frameworks(resource_dir("policies"))
    return [FrameworkSummary(**{**dict(one), "requirements": len(one.requirements)}) for one in found]


@router.get("/v1/frameworks/{framework}", needs="reader", summary="Get one framework")
def get_framework(
    request: Request,  # noqa: ARG001 - as above
    framework: Annotated[Name, Path(description="`framework` of the list.")],
) -> Framework:
    """All requirements, with the evidence that each needs, and the date from which it applies."""
    for one in load_frameworks(resource_dir("policies")):
        if one.framework == framework:
            return one
    raise NotFound(f"no framework {framework}")


record_router(router, Policy, "policies", singular="policy", about="A policy's name, or `name/version`.")


class PolicyText(BaseModel):
    """A policy as YAML."""

    policy: Annotated[str, Field(min_length=1, max_length=40_000, description="The text of a policy file.")]


@router.post("/v1/policies", needs="approver", creates=Policy, summary="Save a policy")
def create_policy(request: Request, request_body: PolicyText) -> Response:
    """Stores it, so that audits and terms can name it by its digest. It binds no model until two people set terms.

    An invalid policy is refused with every fault and its line; so is another one under a known name and version.
    """
    from auditsvc.services.policies import parse_policy

    policy = parse_policy(request_body.policy, "policy")
    site_of(request).ledger.append(policy, actor=request.state.caller.name)
    return created(policy)


class BacktestRequest(PolicyText):
    """A policy as YAML, and the model whose decisions are used; all models by default."""

    model: Name | None = None


class BacktestResult(BaseModel):
    """What this policy would have decided for each candidate, and how many decisions would change."""

    policy: Digest
    changed: int
    decisions: list[BacktestRow]


@router.post("/v1/policies/backtests", needs="reader", summary="Backtest a policy")
def create_backtest(request: Request, request_body: BacktestRequest) -> BacktestResult:
    """Decides again for every candidate, using the stored evidence. Nothing is measured or stored.

    An invalid policy is refused with every fault and its line.
    """
    from auditsvc.services.policies import parse_policy

    policy = parse_policy(request_body.policy, "policy")
    found = list(backtest(policy, site_of(request).ledger, request_body.model))
    return BacktestResult(policy=policy.digest, changed=sum(item.turned for item in found), decisions=found)


@router.get("/v1/builtin-policies", needs="reader", summary="List built-in policies")
def list_builtin_policies(request: Request) -> list[Name]:  # noqa: ARG001 - a route with a role takes its request
    """The names of the policies that come with auditsvc; use them as they are, or copy them."""
    return [path.stem for path in sorted((resource_dir("policies") / "gates").glob("*.yaml"))]


@router.get(
    "/v1/builtin-policies/{name}",
    needs="reader",
    sends={"application/yaml": {"schema": {"type": "object"}}},
    summary="Get one built-in policy",
)
def get_builtin_policy(
    request: Request,  # noqa: ARG001 - as above
    name: Annotated[Name, Path(description="A name of the list.")],
) -> Response:
    """The YAML file, with the reason for every limit."""
    for path in (resource_dir("policies") / "gates").glob("*.yaml"):
        if path.stem == name:
            return Response(path.read_bytes(), media_type="application/yaml")
    raise NotFound(f"no built-in policy {name}")


terms_router = Router(tags=["terms"])

record_router(terms_router, ReleaseTerms, "terms", singular="terms", about="A model's name.")
record_router(terms_router, TermsProposal, "terms_proposals", about="A model's name.")

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


@terms_router.get("/v1/models/{model}/terms", needs="reader", summary="Get the terms of a model")
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


@terms_router.post(
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


@terms_router.post(
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
