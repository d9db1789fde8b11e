"""The pages of policies: those in use, the built-in ones, and a backtest of another policy on past decisions."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import HTMLResponse, Response

from auditsvc.errors import InvalidInput
from auditsvc.records import Policy
from auditsvc.records.policy_explain import explain_policy
from auditsvc.resources import resource_dir
from auditsvc.services.decisions import BacktestRow, backtest
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import Form, page

router = Router(include_in_schema=False)

SHOWN = 50


def _shipped() -> dict[str, str]:
    return {path.stem: path.read_text("utf-8") for path in sorted((resource_dir("policies") / "gates").glob("*.yaml"))}


@router.get("/policies", needs="reader")
def policies_page(request: Request, of: str = "standard") -> HTMLResponse:
    """The policies in use, and a form for a backtest of another one."""
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


@router.get("/policies/{digest}", needs="reader")
def policy_page(request: Request, digest: ADigest) -> HTMLResponse:
    """One policy, explained in plain language."""
    found = site_of(request).ledger.get(Policy, digest)
    return page(request, "policy.html", "/policies", policy=found, explanation=list(explain_policy(found)))


@router.post("/policies/backtests", needs="reader")
def run_backtest(request: Request, given: Form) -> Response:
    """What this policy would have decided for every past decision; nothing is measured or stored."""
    from auditsvc.services.policies import parse_policy

    text = given.get("policy", "")
    faults: tuple[str, ...] = ()
    rows: tuple[BacktestRow, ...] = ()
    try:
        policy = parse_policy(text, "policy")
        rows = tuple(backtest(policy, site_of(request).ledger, given.get("model") or None))
    except InvalidInput as error:
        faults = error.reasons or (str(error),)
    return page(request, "backtest.html", "/policies", faults=faults, rows=rows, text=text)
