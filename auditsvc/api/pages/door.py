"""Coming in with a token, going out, and verifying by dropping a file."""

from __future__ import annotations

import datetime
from contextlib import suppress
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.api.identity import COOKIE, from_own_page
from auditsvc.api.pages.coming import STAYS_S
from auditsvc.api.pages.forms import Form
from auditsvc.api.rendering import page
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.errors import Forbidden, Unauthenticated

router = APIRouter(route_class=RoleRoute, include_in_schema=False)


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
    site: Site = request.app.state.site
    return urlsplit(site.people.issuer.url).netloc if site.people and site.public_url else ""


@router.post("/login")
def come_in(request: Request, given: Form) -> Response:
    """Keep the token in a cookie that no script can read and no other site can send along."""
    site: Site = request.app.state.site
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
def go_out(request: Request) -> Response:
    """Forget the token."""
    if not from_own_page(request):
        raise Forbidden("go out from our own page")
    token = request.cookies.get(COOKIE, "")
    if token:
        _end_session(request.app.state.site, token)
    answer = RedirectResponse("/", 303)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
    return answer


def _end_session(site: Site, token: str) -> None:
    """A token that was made for this browser ends with it; one that an admin handed out stays good."""
    with suppress(Unauthenticated):
        caller = site.access.caller(token)
        known = next(one for one in site.access.tokens() if one.id == caller.token)
        if known.expires - known.issued <= datetime.timedelta(seconds=STAYS_S):
            site.access.revoke(caller.token)
            site.of(caller.project).note("went-out", caller.name, token=caller.token)
