"""Policies as a page: those in use, those that are shipped, and what another would have said about the past."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from auditsvc.errors import InvalidInput
from auditsvc.records import Policy
from auditsvc.records.policy_explain import explain_policy
from auditsvc.resources import resource_dir
from auditsvc.services.policy_backtest import BacktestRow, backtest
from auditsvc.web.authentication import site_of
from auditsvc.web.pages.forms import Form
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import page
from auditsvc.web.role_routes import RoleRoute

router = APIRouter(route_class=RoleRoute, include_in_schema=False)

SHOWN = 50


def _shipped() -> dict[str, str]:
    return {path.stem: path.read_text("utf-8") for path in sorted((resource_dir("policies") / "gates").glob("*.yaml"))}


@router.get("/policies")
def policies(request: Request, of: str = "standard") -> HTMLResponse:
    """Policies in use, and a place to try another on everything that was judged."""
    used = [item for _, item in site_of(request).ledger.page(Policy, limit=SHOWN)]
    texts = _shipped()
    return page(
        request,
        "policies.html",
        "/policies",
        used=used,
        names=list(texts),
        chosen=of if of in texts else "",
        text=texts.get(of, ""),
    )


@router.get("/policies/{digest}")
def policy(request: Request, digest: ADigest) -> HTMLResponse:
    """One policy in plain words."""
    found = site_of(request).ledger.get(Policy, digest)
    return page(request, "policy.html", "/policies", policy=found, words=list(explain_policy(found)))


@router.post("/policies/dry-run")
def dry_run(request: Request, given: Form) -> Response:
    """What this policy would have decided on everything that was judged; nothing is measured or stored."""
    from auditsvc.services.policies import parse_policy

    text = given.get("policy", "")
    faults: tuple[str, ...] = ()
    found: tuple[BacktestRow, ...] = ()
    try:
        tried = parse_policy(text, "policy")
        found = tuple(backtest(tried, site_of(request).ledger, given.get("model") or None))
    except InvalidInput as error:
        faults = error.reasons or (str(error),)
    return page(request, "dry_run.html", "/policies", faults=faults, replayed=found, text=text)
