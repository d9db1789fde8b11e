"""Administration: tokens and their roles, webhooks and their deliveries, and the health of storage and queue."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.records import ReleaseTerms, TermsProposal
from auditsvc.services.signing_context import trust_of
from auditsvc.services.statements import parse_draft
from auditsvc.services.terms import pending_terms
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.token_store import ROLES
from auditsvc.web.rendering import Form, page
from auditsvc.web.state import ProjectState
from auditsvc.web.v1 import webhooks as api

router = Router(include_in_schema=False)

SHOWN = 50


@router.get("/admin", needs="admin")
def admin_page(request: Request) -> HTMLResponse:
    """Everything that an admin manages."""
    return _shown(request)


def _shown(request: Request, secret: str = "", about: str = "") -> HTMLResponse:
    """The page; ``secret`` is that of a new token or webhook, which is shown this once."""
    site = site_of(request)
    now = site.clock.now()
    tokens = api.list_tokens(request)[::-1]
    facts: dict[str, Any] = {
        "tokens": [one for one in tokens if not one.revoked and one.expires > now],
        "ended": sum(bool(one.revoked) or one.expires <= now for one in tokens),
        "roles": ROLES,
        "projects": sorted(site.others),
        "webhooks": site.webhooks.webhooks()[::-1],
        "deliveries": site.webhooks.deliveries(limit=SHOWN),
        "health": _health(site),
        "keys": trust_of(site.ctx).keys,
        "witnesses": site.ctx.witnesses.vkeys if site.ctx.witnesses else (),
        "terms": _terms(site),
    }
    answer = page(request, "admin.html", "/admin", secret=secret, about=about, **facts)
    if secret:
        answer.headers["cache-control"] = "no-store"
    return answer


def _terms(site: ProjectState) -> list[tuple[str, TermsProposal | None, ReleaseTerms | None]]:
    """Each model with its open proposal and its newest terms."""
    newest = {one.model: one for _, one in reversed(site.ledger.page(ReleaseTerms, limit=SHOWN))}
    models = [one.model for _, one in site.ledger.page(TermsProposal, limit=SHOWN)] + list(newest)
    return [(name, pending_terms(site.ledger, name), newest.get(name)) for name in dict.fromkeys(models)]


def _health(site: ProjectState) -> list[tuple[str, str, bool]]:
    """What is watched, its state, and whether it is as it should be."""
    size, most = site.ctx.blobs.size(), site.max_blob_bytes
    stored = f"{size / 1e9:.2f} GB" + (f" of {most / 1e9:g} GB" if most else "")
    waiting = site.jobs.page(state="queued", limit=100)
    failed = [one for one in site.jobs.page(limit=100) if one.state == "failed"]
    old = (site.clock.now() - waiting[-1].submitted_at).total_seconds() / 60 if waiting else 0
    faults = site.log_check.faults if site.log_check else ()
    return [
        ("Files", stored, not most or size < most),
        ("Queued jobs", f"{len(waiting)}, the oldest for {old:.0f} minutes" if waiting else "none", old < 60),
        ("Running jobs", str(len(site.jobs.page(state="running", limit=100))), True),
        ("Failed jobs", f"{len(failed)} of the newest 100", not failed),
        ("Log", "; ".join(faults) or f"{site.ledger.size()} entries, the ledger follows from them", not faults),
        ("Model registry", "; ".join(site.watch_faults) or "no fault found", not site.watch_faults),
    ]


@router.post("/admin/tokens", needs="admin")
def add_token(request: Request, given: Form) -> Response:
    """Issue a token and show it once."""
    made = api.create_token(request, parse_draft(api.TokenRequest, given))
    return _shown(request, made.token, f"Token of {made.about.name}, {made.about.role}")


@router.post("/admin/webhooks", needs="admin")
def add_webhook(request: Request, given: Form) -> Response:
    """Create a webhook and show its secret once."""
    fields = given | {"events": given.get("events", "").replace(",", " ").split()}
    made = api.create_webhook(request, parse_draft(api.NewWebhook, fields))
    return _shown(request, made.secret, f"Secret of the webhook {made.about.url}")


@router.post("/admin/tokens/{id}/revocations", needs="admin")
def revoke_token(request: Request, id: api.TokenId) -> Response:
    """Revoke a token."""
    api.revoke_token(request, id)
    return RedirectResponse("/admin", 303)


@router.post("/admin/webhooks/{id}/disable", needs="admin")
def disable_webhook(request: Request, id: api.WebhookId) -> Response:
    """Disable a webhook."""
    api.disable_webhook(request, id)
    return RedirectResponse("/admin#webhooks", 303)


@router.post("/admin/deliveries/{id}/attempts", needs="admin")
def redeliver(request: Request, id: api.DeliveryId) -> Response:
    """Send a delivery again."""
    api.redeliver(request, id)
    return RedirectResponse("/admin#webhooks", 303)
