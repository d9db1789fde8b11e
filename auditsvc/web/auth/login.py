"""Log in with a token or through an OIDC issuer, and log out.

The OIDC login keeps state, nonce and PKCE verifier for ten minutes in a cookie that the browser sends back when the
issuer redirects it. The user then gets a token of this service for twelve hours, whose secret is shown to no one, and a
session of it; the log records login and logout.
"""

from __future__ import annotations

import hmac
import secrets
from urllib.parse import urlsplit

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from auditsvc.web.auth import token_store
from auditsvc.web.auth.authentication import Router, is_same_origin, set_session_cookie
from auditsvc.web.auth.oidc_roles import OidcUsers
from auditsvc.web.auth.token_store import OIDC, Caller
from auditsvc.web.rendering import Form, page
from auditsvc.web.state import ProjectState

router = Router(include_in_schema=False)

LOGIN_STATE_COOKIE = "auditsvc_login"
LOGIN_STATE_S = 600


def _login_issuer(request: Request) -> tuple[ProjectState, OidcUsers, str]:
    site: ProjectState = request.app.state.site
    if site.people is None:
        raise NotFound("no OIDC issuer is configured; log in with a token")
    if not site.public_url:
        raise InvalidInput("the OIDC login needs AUDITSVC_PUBLIC_URL; ask an admin to set it")
    return site, site.people, f"{site.public_url}/login/callback"


@router.get("/login/oidc", needs="anyone")
def start_oidc_login(request: Request, project: str = "") -> Response:
    """Redirect to the issuer."""
    site, people, callback_url = _login_issuer(request)
    state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
    answer = RedirectResponse(people.issuer.login_address(callback_url, state, nonce, verifier), 303)
    pending = ".".join((state, nonce, verifier, project[:40]))
    answer.set_cookie(
        LOGIN_STATE_COOKIE,
        pending,
        LOGIN_STATE_S,
        httponly=True,
        samesite="lax",
        secure=site.is_https,
        path=f"{site.prefix}/login",
    )
    return answer


@router.get("/login/callback", needs="anyone")
async def finish_oidc_login(request: Request, code: str = "", state: str = "", error: str = "") -> Response:
    """Finish the login when the issuer redirects back.

    The answer is a page and not a redirect, because a browser doesn't send a ``SameSite=Strict`` cookie on a redirect
    that another site started.
    """
    site, people, address = _login_issuer(request)
    pending = request.cookies.get(LOGIN_STATE_COOKIE, "").split(".")
    if error or not code or len(pending) != 4 or not hmac.compare_digest(pending[0].encode(), state.encode()):
        raise Unauthenticated(
            f"the login at the issuer failed ({error[:100] or 'not started in this browser'}); try again"
        )
    claims = await run_in_threadpool(people.issuer.redeem, code, address, pending[2], pending[1])
    caller = people.caller_of(claims, pending[3] or None)
    secret = await run_in_threadpool(_session, site, caller)
    answer = page(request, "welcome.html", "/login", name=caller.name, roles=caller.role, project=caller.project)
    set_session_cookie(site, answer, secret)
    answer.delete_cookie(LOGIN_STATE_COOKIE, path=f"{site.prefix}/login")
    return answer


def _session(site: ProjectState, caller: Caller) -> str:
    days = token_store.SESSION.total_seconds() / 86400
    _, token = site.access.issue(caller.name, " ".join(caller.roles), days, caller.project, issuer=caller.issuer)
    site.of(caller.project).log_event(
        "user.logged-in", caller.name, token=token.id, role=token.role, subject=caller.token.removeprefix("oidc:")
    )
    return token_store.open_session(site.access, token.id)


@router.get("/login", needs="anyone")
def login(request: Request) -> HTMLResponse:
    """The login form."""
    return page(request, "login.html", "/login", error="", issuer=_issuer(request))


def _issuer(request: Request) -> str:
    """The host of the OIDC issuer, or empty where none is configured."""
    site: ProjectState = request.app.state.site
    return urlsplit(site.people.issuer.url).netloc if site.people and site.public_url else ""


@router.post("/login", needs="anyone")
def log_in(request: Request, given: Form) -> Response:
    """Begin a session of the token; its cookie can't be read by scripts or sent by other sites."""
    site: ProjectState = request.app.state.site
    if not is_same_origin(request):
        raise Forbidden("log in from the login page of this service")
    token = given.get("token", "").strip()
    try:
        caller = site.access.caller(token)
    except Unauthenticated as error:
        return page(request, "login.html", "/login", status=401, error=str(error), issuer=_issuer(request))
    answer = RedirectResponse("/", 303)
    set_session_cookie(site, answer, token_store.open_session(site.access, caller.token))
    return answer


@router.post("/logout", needs="anyone")
def log_out(request: Request) -> Response:
    """End the session of this browser, and the token that an OIDC login made for it."""
    if not is_same_origin(request):
        raise Forbidden("log out from a page of this service")
    site: ProjectState = request.app.state.site
    _end_session(site, request.cookies.get(site.cookie, ""))
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(site.cookie, path="/", secure=site.is_https, httponly=True, samesite="strict")
    return answer


def _end_session(site: ProjectState, secret: str) -> None:
    """End the session, and revoke the token of an OIDC login; a token that an admin issued stays valid."""
    caller = token_store.end_session(site.access, secret)
    if caller is not None and caller.issuer.startswith(OIDC):
        site.access.revoke(caller.token)
        site.of(caller.project).log_event("user.logged-out", caller.name, token=caller.token)
