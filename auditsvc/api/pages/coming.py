"""Coming in through an OIDC issuer: out to the issuer, and back with a code.

What was begun is kept in the browser for ten minutes: state, nonce and verifier in a cookie that comes along when
the issuer sends the browser back.  Who comes back gets a token of ours for twelve hours, as if an admin had made it,
and both its making and its end are in the log.
"""

from __future__ import annotations

import hmac
import secrets

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response

from auditsvc.api.identity import COOKIE, Caller
from auditsvc.api.people import People
from auditsvc.api.rendering import page
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.errors import InvalidInput, NotFound, Unauthenticated

router = APIRouter(route_class=RoleRoute, include_in_schema=False)

BEGUN = "auditsvc_login"
BEGUN_S = 600
STAYS_S = 12 * 3600


def _issuer(request: Request) -> tuple[Site, People, str]:
    site: Site = request.app.state.site
    if site.people is None:
        raise NotFound("no OIDC issuer is set here; come in with a token")
    if not site.public_url:
        raise InvalidInput("to come in through the issuer, an admin sets AUDITSVC_PUBLIC_URL")
    return site, site.people, f"{site.public_url}/login/back"


@router.get("/login/out")
def out(request: Request, project: str = "") -> Response:
    """To the issuer."""
    site, people, back = _issuer(request)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    answer = RedirectResponse(people.issuer.login_address(back, state, nonce, verifier), 303)
    kept = ".".join((state, nonce, verifier, project[:40]))
    answer.set_cookie(BEGUN, kept, BEGUN_S, httponly=True, samesite="lax", secure=_secure(site), path="/login")
    return answer


@router.get("/login/back")
async def back(request: Request, code: str = "", state: str = "", error: str = "") -> Response:
    """From the issuer.  The first page is shown by a link: a cookie for our own pages only is not sent otherwise."""
    site, people, address = _issuer(request)
    begun = request.cookies.get(BEGUN, "").split(".")
    if error or not code or len(begun) != 4 or not hmac.compare_digest(begun[0], state):
        raise Unauthenticated(f"the issuer sent you back without a login ({error[:100] or 'not begun here'})")
    claims = await run_in_threadpool(people.issuer.redeem, code, address, begun[2], begun[1])
    caller = people.caller_of(claims, begun[3] or None)
    secret = await run_in_threadpool(_session, site, caller)
    answer = page(request, "welcome.html", "/login", name=caller.name, roles=caller.role, project=caller.project)
    answer.set_cookie(COOKIE, secret, STAYS_S, httponly=True, samesite="strict", secure=_secure(site))
    answer.delete_cookie(BEGUN, path="/login")
    return answer


def _session(site: Site, caller: Caller) -> str:
    secret, token = site.access.issue(caller.name, " ".join(caller.roles), STAYS_S / 86400, caller.project)
    site.of(caller.project).note(
        "came-in", caller.name, token=token.id, role=token.role, subject=caller.token.removeprefix("oidc:")
    )
    return secret


def _secure(site: Site) -> bool:
    return site.public_url.startswith("https://")
