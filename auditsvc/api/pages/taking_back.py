"""The two buttons beside a release: recall it, or let the alias go back to it.  Each takes two people."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from auditsvc.api.identity import Caller, site_of
from auditsvc.api.pages.forms import Form
from auditsvc.api.reading import ADigest
from auditsvc.api.recalling import RECALLS, RETURNS, Waiting, ask_or_confirm, ask_or_go_back
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.records import AliasMove, Release, Revocation

router = APIRouter(route_class=RoleRoute, include_in_schema=False)


@router.post("/releases/{digest}/recall")
def recalled(request: Request, digest: ADigest, given: Form) -> Response:
    """Ask for a recall with a reason, or confirm somebody else's."""
    site: Site = site_of(request)
    release = site.ledger.get(Release, digest)
    ask_or_confirm(site, release, request.state.caller.name, _reason(given))
    return RedirectResponse(f"/decisions/{release.decision}", 303)


@router.post("/releases/{digest}/return")
def returned(request: Request, digest: ADigest, given: Form) -> Response:
    """Ask to go back to this release with a reason, or confirm it."""
    site: Site = site_of(request)
    release = site.ledger.get(Release, digest)
    ask_or_go_back(site, release, request.state.caller.name, _reason(given))
    return RedirectResponse(f"/decisions/{release.decision}", 303)


def _reason(given: dict[str, str]) -> str | None:
    return given.get("reason", "").strip()[:4000] or None


def steps(site: Site, release: Release | None, caller: Caller) -> list[dict[str, Any]]:
    """What may be done about a release: the verb, what it does in words, who asked, and whether this person may act."""
    if release is None or site.ledger.find(Revocation, release.digest):
        return []
    moves = site.ledger.find(AliasMove, release.model)
    at = moves[-1].version if moves else None
    found = [_step(site, release, caller, RECALLS, "recall", "Recall", "It must not be used any more.")]
    if at != release.version:
        words = f"The alias goes from {f'version {at}' if at else 'nowhere'} to this version."
        found.append(_step(site, release, caller, RETURNS, "return", "Go back to this version", words))
    return found


def _step(
    site: Site, release: Release, caller: Caller, waiting: Waiting, verb: str, title: str, words: str
) -> dict[str, Any]:
    asked = waiting.asked_of(site, release.digest)
    own = asked is not None and asked.person.lower() == caller.name.lower()
    return {
        "path": f"/releases/{release.digest}/{verb}",
        "verb": verb,
        "title": title,
        "words": words,
        "asked": asked,
        "may": caller.may("approver") and not own,
    }
