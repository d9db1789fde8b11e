"""The page of a model: the terms that bind it, a proposal to confirm, a form for new terms, and its versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.errors import NotFound
from auditsvc.records import Candidate, Name, Parent, Submission, TermsProposal, person_key
from auditsvc.resources import resource_dir
from auditsvc.services.statements import parse_draft
from auditsvc.services.terms import TermsDraft, binding_terms, confirm_terms, pending_terms, propose_terms
from auditsvc.web.auth.authentication import Router, require_independent, site_of
from auditsvc.web.pages.overview import row_of
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import Form, page

router = Router(include_in_schema=False)

AModel = Annotated[Name, Path()]
SHOWN = 20


@router.get("/models/{model}", needs="reader")
def model_page(request: Request, model: AModel) -> HTMLResponse:
    """The terms, and the newest versions with their answers.

    Raises:
        NotFound: the model isn't registered.
    """
    site, caller = site_of(request), request.state.caller
    if not site.ledger.find(Parent, model):
        raise NotFound(f"the model {model} is not registered")
    pending = pending_terms(site.ledger, model)
    candidates = (item for _, item in site.ledger.page(Candidate, subject=model, limit=SHOWN))
    submissions = [item for one in candidates for item in site.ledger.find(Submission, one.digest)[-1:]]
    return page(
        request,
        "model.html",
        "/",
        model=model,
        terms=binding_terms(site.ledger, model),
        pending=pending,
        rows=[row_of(site, item) for item in submissions],
        policies=sorted(path.stem for path in (resource_dir("policies") / "gates").glob("*.yaml")),
        may_confirm=pending and caller.may("approver") and person_key(pending.proposed_by) != person_key(caller.name),
        may_propose=caller.may("approver"),
    )


@router.post("/models/{model}/terms", needs="approver")
def create_terms_proposal(request: Request, model: AModel, given: Form) -> Response:
    """Propose terms under the caller's name; another person must confirm them."""
    from auditsvc.services.policies import resolve_remote_policy

    site = site_of(request)
    name = given.get("policy", "").strip()
    fields = {
        "datasets": given.get("datasets", "").split(),
        "slices": dict(_slice(line) for line in given.get("slices", "").splitlines() if line.strip()),
        "approvals": given.get("approvals", "").strip(),
        "unmarked": given.get("unmarked") == "yes",
        "reason": given.get("reason", "").strip(),
    }
    draft = parse_draft(TermsDraft, fields)
    propose_terms(site.ctx, model, resolve_remote_policy(name, site.ledger), draft, request.state.caller.name)
    return RedirectResponse(f"/models/{model}", 303)


def _slice(line: str) -> tuple[str, str]:
    name, _, images = line.strip().rpartition(":")
    return name.strip(), images.strip()


@router.post("/terms-proposals/{digest}/confirmations", needs="approver")
def create_terms_confirmation(request: Request, digest: ADigest) -> Response:
    """Confirm terms that another person proposed."""
    site = site_of(request)
    proposal = site.ledger.get(TermsProposal, digest)
    person = require_independent(request, (proposal.proposed_by,))
    made = confirm_terms(site.ctx, proposal, person)
    return RedirectResponse(f"/models/{made.model}", 303)
