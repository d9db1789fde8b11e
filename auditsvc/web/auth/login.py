"""Coming in with a token, going out, and verifying by dropping a file.

Coming in through an OIDC issuer: out to the issuer, and back with a code.

What was begun is kept in the browser for ten minutes: state, nonce and verifier in a cookie that comes along when
the issuer sends the browser back.  Who comes back gets a token of ours for twelve hours, as if an admin had made it,
and both its making and its end are in the log.
"""

from __future__ import annotations

import datetime
import hmac
import secrets
from contextlib import suppress
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from auditsvc.web.auth.oidc_roles import OidcUsers
from auditsvc.web.authentication import from_own_page
from auditsvc.web.caller import COOKIE, Caller
from auditsvc.web.pages.forms import Form
from auditsvc.web.rendering import page
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

router = APIRouter(route_class=RoleRoute, include_in_schema=False)

LOGIN_STATE_COOKIE = "auditsvc_login"
LOGIN_STATE_S = 600
STAYS_S = 12 * 3600


def _login_issuer(request: Request) -> tuple[ProjectState, OidcUsers, str]:
    site: ProjectState = request.app.state.site
    if site.people is None:
        raise NotFound("no OIDC issuer is set here; come in with a token")
    if not site.public_url:
        raise InvalidInput("to come in through the issuer, an admin sets AUDITSVC_PUBLIC_URL")
    return site, site.people, f"{site.public_url}/login/back"


@router.get("/login/out")
def start_oidc_login(request: Request, project: str = "") -> Response:
    """To the issuer."""
    site, people, finish_oidc_login = _login_issuer(request)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    answer = RedirectResponse(people.issuer.login_address(finish_oidc_login, state, nonce, verifier), 303)
    kept = ".".join((state, nonce, verifier, project[:40]))
    answer.set_cookie(
        LOGIN_STATE_COOKIE, kept, LOGIN_STATE_S, httponly=True, samesite="lax", secure=_secure(site), path="/login"
    )
    return answer


@router.get("/login/back")
async def finish_oidc_login(request: Request, code: str = "", state: str = "", error: str = "") -> Response:
    """From the issuer.  The first page is shown by a link: a cookie for our own pages only is not sent otherwise."""
    site, people, address = _login_issuer(request)
    begun = request.cookies.get(LOGIN_STATE_COOKIE, "").split(".")
    if error or not code or len(begun) != 4 or not hmac.compare_digest(begun[0], state):
        raise Unauthenticated(f"the issuer sent you back without a login ({error[:100] or 'not begun here'})")
    claims = await run_in_threadpool(people.issuer.redeem, code, address, begun[2], begun[1])
    caller = people.caller_of(claims, begun[3] or None)
    secret = await run_in_threadpool(_session, site, caller)
    answer = page(request, "welcome.html", "/login", name=caller.name, roles=caller.role, project=caller.project)
    answer.set_cookie(COOKIE, secret, STAYS_S, httponly=True, samesite="strict", secure=_secure(site))
    answer.delete_cookie(LOGIN_STATE_COOKIE, path="/login")
    return answer


def _session(site: ProjectState, caller: Caller) -> str:
    secret, token = site.access.issue(caller.name, " ".join(caller.roles), STAYS_S / 86400, caller.project)
    site.of(caller.project).log_event(
        "user.logged-in", caller.name, token=token.id, role=token.role, subject=caller.token.removeprefix("oidc:")
    )
    return secret


def _secure(site: ProjectState) -> bool:
    return site.public_url.startswith("https://")


@router.get("/verify")
def verify(request: Request) -> HTMLResponse:
    """A place to drop a file on; it is sent to ``POST /v1/verify``, and what came out is shown."""
    return page(request, "verify.html", "/verify")


@router.get("/login")
def login(request: Request) -> HTMLResponse:
    """Where a token is given."""
    return page(request, "login.html", "/login", trouble="", issuer=_issuer(request))


def _issuer(request: Request) -> str:
    """The host of the issuer through which people can come in here; nothing where there is none."""
    site: ProjectState = request.app.state.site
    return urlsplit(site.people.issuer.url).netloc if site.people and site.public_url else ""


@router.post("/login")
def log_in(request: Request, given: Form) -> Response:
    """Keep the token in a cookie that no script can read and no other site can send along."""
    site: ProjectState = request.app.state.site
    if not from_own_page(request):
        raise Forbidden("come in from our own page")
    token = given.get("token", "").strip()
    try:
        site.access.caller(token)
    except Unauthenticated as error:
        return page(request, "login.html", "/login", status=401, trouble=str(error), issuer=_issuer(request))
    answer = RedirectResponse("/", 303)
    secure = request.url.scheme == "https"
    answer.set_cookie(COOKIE, token, max_age=12 * 3600, httponly=True, samesite="strict", secure=secure)
    return answer


@router.post("/logout")
def log_out(request: Request) -> Response:
    """Forget the token."""
    if not from_own_page(request):
        raise Forbidden("go out from our own page")
    token = request.cookies.get(COOKIE, "")
    if token:
        _end_session(request.app.state.site, token)
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _end_session(site: ProjectState, token: str) -> None:
    """A token that was made for this browser ends with it; one that an admin handed out stays good."""
    with suppress(Unauthenticated):
        caller = site.access.caller(token)
        known = next(one for one in site.access.tokens() if one.id == caller.token)
        if known.expires - known.issued <= datetime.timedelta(seconds=STAYS_S):
            site.access.revoke(caller.token)
            site.of(caller.project).log_event("user.logged-out", caller.name, token=caller.token)
