"""The page of a model: its versions, frontier, timeline and terms; and a comparison of two versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.compliance.report.wording import count_title
from auditsvc.errors import NotFound
from auditsvc.records import (
    Alarm,
    Approval,
    Candidate,
    Decision,
    Moment,
    Name,
    Objection,
    Parent,
    Release,
    Revocation,
    Submission,
    TermsProposal,
    person_key,
)
from auditsvc.resources import resource_dir
from auditsvc.services.statements import parse_draft
from auditsvc.services.terms import TermsDraft, binding_terms, pending_terms, propose_terms
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.pages.candidate import Judged, frontier_of, judged
from auditsvc.web.pages.overview import rows_of
from auditsvc.web.record_routes import form_route
from auditsvc.web.rendering import Form, page
from auditsvc.web.state import ProjectState
from auditsvc.web.v1 import policies

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
        "/models",
        model=model,
        frontier=_frontier(site, submissions),
        events=_events(site, submissions),
        terms=binding_terms(site.ledger, model),
        pending=pending,
        rows=rows_of(site, submissions),
        policies=sorted(path.stem for path in (resource_dir("policies") / "gates").glob("*.yaml")),
        may_confirm=pending and caller.may("approver") and person_key(pending.proposed_by) != person_key(caller.name),
        may_propose=caller.may("approver"),
    )


def _frontier(site: ProjectState, submissions: list[Submission]) -> list[tuple[str, Markup]]:
    """All versions that were decided under the policy of the newest decided one."""
    for one in submissions:
        if decisions := site.ledger.find(Decision, one.candidate):
            return frontier_of(site, one, decisions[-1])
    return []


def _events(site: ProjectState, submissions: list[Submission]) -> list[tuple[Moment, str, str]]:
    """When, what happened and its page, newest first."""
    ledger = site.ledger
    found: list[tuple[Moment, str, str]] = []
    for one in submissions:
        name, pages = f"version {one.version}", f"/candidates/{one.candidate}"
        found.append((one.at, f"{one.submitter} submitted {name}", pages))
        for decided in ledger.find(Decision, one.candidate):
            pages, kind = f"/decisions/{decided.digest}", "trial" if decided.trial else "decision"
            found.append((decided.at, f"{name}: {kind} {decided.outcome} under {decided.policy_name}", pages))
            found += [(a.at, f"{a.approver} approved {name}", pages) for a in ledger.find(Approval, decided.digest)]
            found += [(a.at, f"{a.words} ({name})", pages) for a in ledger.find(Objection, decided.digest)]
            for released in ledger.find(Release, decided.digest):
                found.append((released.at, f"{name} was released", pages))
                found += [(a.at, f"alarm: {a.outcome} ({name})", pages) for a in ledger.find(Alarm, released.digest)]
                found += [(a.at, f"{name} was revoked", pages) for a in ledger.find(Revocation, released.digest)]
    return sorted(found, key=lambda event: event[0], reverse=True)


@router.get("/models/{model}/comparison", needs="reader")
def comparison(request: Request, model: AModel, one: str, other: str) -> HTMLResponse:
    """Two versions of a model next to each other: verdict, costs and map of losses.

    Raises:
        NotFound: one of them was never submitted, or has no decision.
    """
    site, found = site_of(request), []
    for version in (one, other):
        submissions = site.ledger.find(Submission, f"{model}/{version}")
        decisions = site.ledger.find(Decision, submissions[-1].candidate) if submissions else ()
        if not decisions:
            raise NotFound(f"{model} version {version} has no decision to compare")
        candidate = site.ledger.get(Candidate, submissions[-1].candidate)
        found.append((version, candidate, decisions[-1], judged(site, decisions[-1], submissions[-1])))
    return page(request, "comparison.html", "/models", model=model, versions=found, changes=_changes(found))


def _changes(found: list[tuple[str, Candidate, Decision, Judged]]) -> list[tuple[str, tuple[str, ...]]]:
    """What differs between two versions: recipe, policy, data, counts, and how many results of each rule are met."""
    rows: dict[str, dict[str, str]] = {}
    for version, candidate, decision, drawn in found:
        recipe = candidate.recipe
        targets = ", ".join(f"{name} {value:g}" for name, value in recipe.targets.items()) if recipe else ""
        facts = {"Recipe": f"{recipe.method}, {targets}" if recipe else "pruned elsewhere", "Gate": decision.outcome}
        facts |= {"Policy": decision.policy_name, "Data": ", ".join(one.name for one in decision.data or ())}
        facts |= {count_title(name): f"{value:,.0f}" for name, value in sorted(candidate.card.items())}
        facts |= {f"Rule {one.rule}, results met": f"{one.counts.met} of {len(one.rows)}" for one in drawn.rules}
        for title, value in facts.items():
            rows.setdefault(title, {})[version] = value
    shown = ((title, tuple(values.get(one[0], "none") for one in found)) for title, values in rows.items())
    return [(title, values) for title, values in shown if len(set(values)) > 1]


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


def _of_model(request: Request, digest: str) -> str:
    return f"/models/{site_of(request).ledger.get(TermsProposal, digest).model}"


form_route(
    router, "/terms-proposals/{digest}/confirmations", "approver", policies.create_terms_confirmation, None, _of_model
)
