"""Who is calling: the bearer of a token of ours or of an OIDC issuer, or, on this machine only, a reader without one.

A token comes in ``Authorization: Bearer ...``, or from a browser in a cookie that no other site can send along.
While the service is bound to loopback, a request from this machine without a token has the role ``reader``; one
that a proxy passed on comes from elsewhere and has none.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Set
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import Scope

from auditsvc.errors import Forbidden, Unauthenticated
from auditsvc.web.caller import COOKIE, LOCAL, PROJECT, Caller

if TYPE_CHECKING:
    from auditsvc.web.state import ProjectState


_SAFE = ("GET", "HEAD", "OPTIONS")
_PASSED_ON = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


async def caller_of(request: Request) -> Caller:
    """Who sent this request.

    Raises:
        Unauthenticated: no token where one is needed, or one that is unknown, expired or revoked.
        Forbidden: another site tries to act with the token in the browser's cookie; or the issuer's groups give the
            caller no role here.
    """
    site: ProjectState = request.app.state.site
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme:
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("give the token as: Authorization: Bearer TOKEN")
        if site.people and is_hmac_signed(token.strip()):
            return await run_in_threadpool(site.people.caller, token.strip(), request.headers.get(PROJECT))
        return await _known(site, token.strip())
    if "cookie" in request.headers and COOKIE in request.cookies:
        if request.method not in _SAFE and not from_own_page(request):
            raise Forbidden("another site tried to act in your name; nothing was done")
        return await _known(site, request.cookies[COOKIE])
    if site.local and not from_outside(request):
        return LOCAL
    raise Unauthenticated("a token is needed: Authorization: Bearer TOKEN; an admin gives you one")


async def _known(site: ProjectState, token: str) -> Caller:
    if site.access.is_local_sqlite:
        return site.access.caller(token)
    return await run_in_threadpool(site.access.caller, token)


def is_hmac_signed(token: str) -> bool:
    """Whether this looks like a signed token of an issuer (three parts) and not like one of ours."""
    return token.count(".") == 2 and not token.startswith("auditsvc_")


_SAYING = frozenset({b"authorization", b"cookie", *(name.encode() for name in _PASSED_ON)})
"""Headers that say who calls, or that somebody passed the request on."""


def is_from_here(scope: Scope, sent: Set[bytes]) -> bool:
    """Whether somebody on this machine asks without saying who; ``sent`` are the names of the headers.

    The hot path: a pipeline beside the service asks the gate like this, hundreds of times a second.
    """
    return sent.isdisjoint(_SAYING) and is_loopback(scope["client"][0] if scope.get("client") else "")


@lru_cache(maxsize=1000)
def is_loopback(host: str) -> bool:
    """Whether this address reaches no further than this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def site_of(request: Request) -> ProjectState:
    """The site of the caller's project; where nobody had to say who calls, the first one."""
    found: ProjectState = request.scope["state"].get("site") or request.app.state.site
    return found


def from_outside(request: Request) -> str:
    """The address that the request comes from; nothing where it is this machine's own and no proxy passed it on."""
    address = request.client.host if request.client else "unknown"
    passed_on = any(name in request.headers for name in _PASSED_ON)
    return "" if is_loopback(address) and not passed_on else address


def from_own_page(request: Request) -> bool:
    """Whether the browser says that one of our own pages sent this."""
    fetched = request.headers.get("sec-fetch-site")
    if fetched is not None:
        return fetched == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")
