"""Authentication and authorisation of every request: who is calling, and whether the route allows it.

A token comes as ``Authorization: Bearer ...``; it is one of this service or of an OIDC issuer. A browser sends the
secret of its session in a same-site cookie (``token_store``). While the service is bound to loopback and has no public
URL, a request from the same machine without a token has the role ``reader``; a request that a proxy forwarded counts as
remote.

Every route declares the access it needs (``@router.get("/v1/gate", needs="reader")``), and the check runs before the
request is read. A route that declares none stops the start.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Set
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from fastapi import APIRouter
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import Scope

from auditsvc.errors import Forbidden, InvalidInput, Unauthenticated
from auditsvc.web.auth import token_store
from auditsvc.web.auth.token_store import LOCAL, OPEN, PROJECT, Access, Caller, require_role
from auditsvc.web.idempotency import idempotent

if TYPE_CHECKING:
    from auditsvc.web.state import ProjectState

Endpoint = Callable[..., Any]
Content = Mapping[str, Mapping[str, Any]]
"""For each media type of a body what the OpenAPI document says of it."""

BINARY = {"schema": {"type": "string", "format": "binary"}}

_SAFE = ("GET", "HEAD", "OPTIONS")
_CREDENTIALS = frozenset({b"authorization", b"cookie"})
_PROXY = re.compile(rb"(x-)?forwarded|x-real-|via$|cf-|cdn-|x-(envoy|amz|amzn|azure|appengine|original|proxy|rewrite)-"
                    rb"|.*(client-ip|remote-(addr|user|ip)|forwarded)|x-request-start")  # fmt: skip
"""Headers that show that a proxy, a tunnel or a content delivery network forwarded the request."""


class RoleRoute(APIRoute):
    """A route that checks the caller's role before it reads anything else of the request."""

    def __init__(self, path: str, endpoint: Endpoint, **options: Any) -> None:
        extra = options.get("openapi_extra") or {}
        if "x-role" not in extra:
            raise InvalidInput(f"the route {path} declares no access: add needs=... to it")
        self.needs: Access = extra["x-role"]
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The route's handler behind the access check."""
        inner, needed = super().get_route_handler(), self.needs
        if needed in OPEN:
            return inner
        known_parameters = frozenset(_query_names(self.dependant))
        is_api = self.path_format.startswith("/v1/")

        async def checked(request: Request) -> Response:
            root: ProjectState = request.app.state.site
            header_names = {name for name, _ in request.scope["headers"]}
            if root.local and is_anonymous_local(request.scope, header_names):
                caller, site = LOCAL, root
            else:
                root.limiter.count(_rate_limit_key(request))
                caller = await authenticate(request)
                site = root if caller.project == root.project else root.of(caller.project)
            require_role(caller, needed)
            if needed == "approver" and not root.approver_tokens and not caller.issuer.startswith("oidc:"):
                raise Forbidden("approvers act through a login at the OIDC issuer here, not by a token")
            state = request.scope["state"]
            state["caller"], state["site"] = caller, site
            if request.method not in _SAFE:
                _refuse_other_sites(request)
            if is_api and request.scope["query_string"]:
                _check_parameters(request, known_parameters)
            if b"idempotency-key" in header_names and request.method not in ("GET", "HEAD"):
                return await idempotent(request, caller, inner)
            response = await inner(request)
            if renewed := state.get("renewed_session"):
                set_session_cookie(root, response, renewed)
            return response

        return checked


class Router:
    """Routes of one resource; each declares the access it needs."""

    def __init__(self, tags: Sequence[str] = (), *, include_in_schema: bool = True) -> None:
        names: list[str | Enum] = list(tags)
        self._router = APIRouter(
            route_class=RoleRoute,
            tags=names,
            include_in_schema=include_in_schema,
            generate_unique_id_function=lambda route: route.name,
        )

    @property
    def routes(self) -> list[BaseRoute]:
        """All routes that were added."""
        return self._router.routes

    def get(self, path: str, *, needs: Access, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Add a ``GET`` route; see ``_add``."""
        return self._add("GET", path, needs, **options)

    def post(self, path: str, *, needs: Access, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Add a ``POST`` route; see ``_add``."""
        return self._add("POST", path, needs, **options)

    def delete(self, path: str, *, needs: Access, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Add a ``DELETE`` route; see ``_add``."""
        return self._add("DELETE", path, needs, **options)

    def _add(
        self,
        method: str,
        path: str,
        needs: Access,
        *,
        creates: type[BaseModel] | None = None,
        takes: Content | None = None,
        sends: Content | None = None,
        **options: Any,
    ) -> Callable[[Endpoint], Endpoint]:
        """Add a route.

        Args:
            method: The HTTP method.
            path: The path, with parameters in braces.
            needs: The access that it needs.
            creates: The model of what it makes, answered with 201.
            takes: The body that it streams, by media type, where it is not JSON of a model.
            sends: The body that it answers, by media type, where it is not JSON of a model.
            **options: FastAPI's.
        """
        security: list[dict[str, list[str]]] = [] if needs in OPEN else [{"token": []}]
        extra: dict[str, Any] = {"x-role": needs, "security": security}
        if takes:
            extra["requestBody"] = {"required": True, "content": takes}
        if creates:
            options |= {"status_code": 201, "response_model": creates}
        if sends:
            options |= {"response_class": Response, "responses": {200: {"content": sends}}}
        return self._router.api_route(path, methods=[method], openapi_extra=extra, **options)


async def authenticate(request: Request) -> Caller:
    """Who sent this request.

    Raises:
        Unauthenticated: no token where one is needed, or one that is unknown, expired or revoked.
        Forbidden: another site tries to act with the browser's cookie; or the issuer's groups give the caller no role.
    """
    site: ProjectState = request.app.state.site
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme:
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("send the token as: Authorization: Bearer TOKEN")
        if site.people and is_jwt(token.strip()):
            return await run_in_threadpool(site.people.caller, token.strip(), request.headers.get(PROJECT))
        return await _token_caller(site, token.strip())
    if "cookie" in request.headers and site.cookie in request.cookies:
        if request.method not in _SAFE and not is_same_origin(request):
            raise Forbidden("the request came from another site; nothing was done")
        found = await run_in_threadpool(token_store.session_caller, site.access, request.cookies[site.cookie])
        caller, request.scope["state"]["renewed_session"] = found
        return caller
    if site.local and not remote_address(request):
        return LOCAL
    raise Unauthenticated("a token is needed: Authorization: Bearer TOKEN; ask an admin for one")


def set_session_cookie(site: ProjectState, response: Response, secret: str) -> None:
    """Give a browser the secret of its session, out of reach of scripts, other sites and, with https, plain HTTP."""
    response.set_cookie(
        site.cookie,
        secret,
        int(token_store.SESSION.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=site.is_https,
        path="/",
    )


async def _token_caller(site: ProjectState, token: str) -> Caller:
    if site.access.is_sqlite:
        return site.access.caller(token)
    return await run_in_threadpool(site.access.caller, token)


def is_jwt(token: str) -> bool:
    """Whether this looks like an issuer's JSON Web Token (three parts) and not like a token of this service."""
    return token.count(".") == 2 and not token.startswith("auditsvc_")


def is_anonymous_local(scope: Scope, header_names: Set[bytes]) -> bool:
    """Whether the request comes from this machine without credentials.

    This is the hot path: a pipeline on the same machine asks the gate hundreds of times a second.
    """
    return (
        header_names.isdisjoint(_CREDENTIALS)
        and is_loopback(scope["client"][0] if scope.get("client") else "")
        and not _is_forwarded(header_names)
    )


@lru_cache(maxsize=1000)
def is_loopback(host: str) -> bool:
    """Whether this address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_independent(request: Request, others: Iterable[str]) -> str:
    """The caller's name, for the second of two people: the first ones are ``others``.

    Raises:
        Forbidden: the tokens of the two don't show that they are two people.
    """
    caller: Caller = request.state.caller
    site_of(request).access.require_independent(caller, others)
    return caller.name


def site_of(request: Request) -> ProjectState:
    """The state of the caller's project; of the default project on routes without a caller."""
    found: ProjectState = request.scope["state"].get("site") or request.app.state.site
    return found


def remote_address(request: Request) -> str:
    """The address that the request comes from; empty for this machine, unless a proxy forwarded it."""
    address = request.client.host if request.client else "unknown"
    forwarded = _is_forwarded({name for name, _ in request.scope["headers"]})
    return "" if is_loopback(address) and not forwarded else address


def _is_forwarded(header_names: Set[bytes]) -> bool:
    return any(_PROXY.match(name) for name in header_names)


def _refuse_other_sites(request: Request) -> None:
    """A page of another site can make a browser send a write without a token; a program sends no ``Origin``.

    Raises:
        Forbidden: a browser says that another site sent it.
    """
    from_browser = "origin" in request.headers or "sec-fetch-site" in request.headers
    if from_browser and "authorization" not in request.headers and not is_same_origin(request):
        raise Forbidden("the request came from another site; nothing was done")


def is_same_origin(request: Request) -> bool:
    """Whether the browser says that a page of this service sent the request."""
    fetch_site = request.headers.get("sec-fetch-site")
    if fetch_site is not None:
        return fetch_site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")


def _rate_limit_key(request: Request) -> str:
    """Requests with one token share a limit, and so do those from one address; this machine has none."""
    site: ProjectState = request.app.state.site
    credentials = request.headers.get("authorization") or request.cookies.get(site.cookie)
    if credentials:
        return hashlib.sha256(credentials.encode()).hexdigest()
    return remote_address(request)


def _query_names(dependant: Dependant) -> set[str]:
    own = {field.alias for field in dependant.query_params}
    return own.union(*(_query_names(inner) for inner in dependant.dependencies))


def _check_parameters(request: Request, known: frozenset[str]) -> None:
    """Refuse unknown and repeated query parameters: an ignored ``polcy=strict`` would answer another question.

    Raises:
        InvalidInput: lists every parameter that the route does not have, or that is repeated.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    allowed = ", ".join(sorted(known)) or "none"
    faults = [f"query {name[:100]}: unknown parameter; allowed: {allowed}" for name in sorted({*names} - known)]
    faults += [f"query {name[:100]}: given {names.count(name)} times" for name in sorted({*names} & known)
               if names.count(name) > 1]  # fmt: skip
    if faults:
        raise InvalidInput("the query parameters are not valid", faults)
