"""Every route has a role, looked up when the route is made; a route without one stops the start."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, get_args

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from auditsvc.errors import Forbidden, InvalidInput, Unauthenticated
from auditsvc.web.authentication import caller_of, from_outside, is_from_here
from auditsvc.web.caller import COOKIE, LOCAL, Caller
from auditsvc.web.idempotency import idempotent
from auditsvc.web.permissions import ROUTES, RequiredRole

if TYPE_CHECKING:
    from auditsvc.web.state import ProjectState


OPEN = ("anyone", "signed")
"""Where no token is asked for."""


def role_for(method: str, path: str) -> RequiredRole:
    """The role that this route needs.

    Raises:
        InvalidInput: the route is not in the table.
    """
    try:
        return ROUTES[method, path]
    except KeyError:
        raise InvalidInput(f"the route {method} {path} has no role: give it one in auditsvc/api/rights.py") from None


def allow(caller: Caller, needed: RequiredRole) -> None:
    """Let the caller pass.

    Raises:
        Unauthenticated: a role is needed that nobody has without a token.
        Forbidden: the caller's role does not include the one that is needed.
    """
    if not caller.may(needed):
        if not caller.token:
            raise Unauthenticated(f"this needs a token with the role {needed}; an admin gives you one")
        raise Forbidden(f"this needs the role {needed}; {caller.name} has the role {caller.role}")


class RoleRoute(APIRoute):
    """A route that looks up its role when it is made, and asks for it before anything else is read."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        methods = options.get("methods") or ["GET"]
        needs = {role_for(method, path) for method in methods}
        if len(needs) != 1:
            raise InvalidInput(f"the methods of {path} need different roles: give each a route of its own")
        self.needs: RequiredRole = needs.pop()
        extra: dict[str, Any] = {"x-role": self.needs, "security": [] if self.needs in OPEN else [{"token": []}]}
        options["openapi_extra"] = {**(options.get("openapi_extra") or {}), **extra}
        super().__init__(path, endpoint, **options)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the check."""
        inner, needed = super().get_route_handler(), self.needs
        if needed in OPEN:
            return inner
        taken = frozenset(_query_names(self.dependant))
        programs = self.path_format.startswith("/v1/")

        async def checked(request: Request) -> Response:
            root: ProjectState = request.app.state.site
            sent = {name for name, _ in request.scope["headers"]}
            if root.local and is_from_here(request.scope, sent):
                caller, site = LOCAL, root
            else:
                root.limiter.count(_source(request))
                caller = await caller_of(request)
                site = root if caller.project == root.project else root.of(caller.project)
            allow(caller, needed)
            state = request.scope["state"]
            state["caller"], state["site"] = caller, site
            if programs and request.scope["query_string"]:
                _refuse_doubtful(request, taken)
            if b"idempotency-key" in sent and request.method not in ("GET", "HEAD"):
                return await idempotent(request, caller, inner)
            return await inner(request)

        return checked


ROLES = get_args(RequiredRole)[2:]
"""The roles that a token can carry."""


def _source(request: Request) -> str:
    """Whose requests are counted together: those with one token, or from one address; nobody on this machine."""
    given = request.headers.get("authorization") or request.cookies.get(COOKIE)
    if given:
        return hashlib.sha256(given.encode()).hexdigest()
    return from_outside(request)


def _query_names(dependant: Dependant) -> set[str]:
    own = {field.alias for field in dependant.query_params}
    return own.union(*(_query_names(inner) for inner in dependant.dependencies))


def _refuse_doubtful(request: Request, taken: frozenset[str]) -> None:
    """A misspelt filter that is ignored gives another answer than was asked for: ``polcy=strict`` would approve.  So
    would one of two that are given: no route takes a parameter twice.

    Raises:
        InvalidInput: parameters that this route does not take, or that are given twice; names them all.
    """
    names = [name for name, _ in request.query_params.multi_items()]
    known = ", ".join(sorted(taken)) or "none"
    faults = [f"query {name[:100]}: not taken here; known: {known}" for name in sorted({*names} - taken)]
    faults += [f"query {name[:100]}: given {names.count(name)} times" for name in sorted({*names} & taken)
               if names.count(name) > 1]  # fmt: skip
    if faults:
        raise InvalidInput("the request can't be used", faults)
