"""Who may do what: a route looks up the role it needs in one table (``rights``).  What is not in it is refused.

A role is what a token carries.  ``reader`` is in all of them; beyond that none includes another: who asks for a
release (``submitter``), who measures and seals (``auditor``), who consents (``approver``) and who hands out tokens
(``admin``) are to be different people.

Every route and the role it needs, in one table.  What is not in it is refused.

A role is what a token carries; what each of them stands for is told in ``roles``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, get_args

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from auditsvc.errors import Forbidden, InvalidInput, Unauthenticated
from auditsvc.web.authentication import COOKIE, LOCAL, Caller, caller_of, from_outside, is_from_here
from auditsvc.web.idempotency import idempotent

if TYPE_CHECKING:
    from auditsvc.web.state import ProjectState


RequiredRole = Literal["anyone", "signed", "reader", "submitter", "auditor", "approver", "admin"]

ROUTES: dict[tuple[str, str], RequiredRole] = {
    ("GET", "/"): "reader",
    ("GET", "/candidates/{digest}"): "reader",
    ("GET", "/decisions/{digest}"): "reader",
    ("GET", "/decisions/{digest}/report"): "reader",
    ("POST", "/decisions/{digest}/approve"): "approver",
    ("POST", "/decisions/{digest}/waive"): "approver",
    ("POST", "/decisions/{digest}/release"): "auditor",
    ("POST", "/releases/{digest}/recall"): "approver",
    ("POST", "/releases/{digest}/return"): "approver",
    ("GET", "/log"): "reader",
    ("GET", "/policies"): "reader",
    ("GET", "/policies/{digest}"): "reader",
    ("POST", "/policies/dry-run"): "reader",
    ("GET", "/reports"): "reader",
    ("GET", "/reports/{model}/{version}/{file}"): "reader",
    ("GET", "/statements"): "reader",
    ("GET", "/statements/documents"): "reader",
    ("POST", "/statements/documents"): "submitter",
    ("POST", "/statements/documents/{digest}/review"): "auditor",
    ("GET", "/statements/answers"): "reader",
    ("POST", "/statements/answers"): "auditor",
    ("GET", "/statements/change-plans"): "reader",
    ("POST", "/statements/change-plans"): "submitter",
    ("POST", "/statements/change-plans/{digest}/review"): "auditor",
    ("GET", "/statements/change-verdicts"): "reader",
    ("POST", "/statements/change-verdicts"): "auditor",
    ("POST", "/statements/change-verdicts/{digest}/review"): "approver",
    ("POST", "/statements/answers/{digest}/review"): "approver",
    ("GET", "/statements/incidents"): "reader",
    ("POST", "/statements/incidents"): "auditor",
    ("POST", "/statements/incidents/{digest}/report"): "auditor",
    ("GET", "/statements/watches"): "reader",
    ("POST", "/statements/watches"): "auditor",
    ("GET", "/jobs"): "reader",
    ("GET", "/verify"): "reader",
    ("GET", "/login"): "anyone",
    ("POST", "/login"): "anyone",
    ("POST", "/logout"): "anyone",
    ("GET", "/healthz"): "anyone",
    ("GET", "/readyz"): "anyone",
    ("GET", "/metrics"): "reader",
    ("GET", "/openapi.json"): "anyone",
    ("GET", "/docs"): "anyone",
    ("GET", "/static/{name}"): "anyone",
    ("GET", "/v1/gate"): "reader",
    ("GET", "/v1/candidates"): "reader",
    ("GET", "/v1/candidates/{digest}"): "reader",
    ("GET", "/v1/parents"): "reader",
    ("GET", "/v1/parents/{digest}"): "reader",
    ("GET", "/v1/submissions"): "reader",
    ("GET", "/v1/submissions/{digest}"): "reader",
    ("GET", "/v1/audits"): "reader",
    ("GET", "/v1/audits/{digest}"): "reader",
    ("GET", "/v1/failed-checks"): "reader",
    ("GET", "/v1/failed-checks/{digest}"): "reader",
    ("GET", "/v1/decisions"): "reader",
    ("GET", "/v1/decisions/{digest}"): "reader",
    ("GET", "/v1/approvals"): "reader",
    ("GET", "/v1/approvals/{digest}"): "reader",
    ("GET", "/v1/waivers"): "reader",
    ("GET", "/v1/waivers/{digest}"): "reader",
    ("GET", "/v1/policies"): "reader",
    ("GET", "/v1/policies/{digest}"): "reader",
    ("GET", "/v1/releases"): "reader",
    ("GET", "/v1/releases/{digest}"): "reader",
    ("GET", "/v1/revocations"): "reader",
    ("GET", "/v1/revocations/{digest}"): "reader",
    ("GET", "/v1/monitors"): "reader",
    ("GET", "/v1/monitors/{digest}"): "reader",
    ("GET", "/v1/rollbacks"): "reader",
    ("GET", "/v1/rollbacks/{digest}"): "reader",
    ("GET", "/v1/alias-moves"): "reader",
    ("GET", "/v1/alias-moves/{digest}"): "reader",
    ("GET", "/v1/releases/{digest}/bundle"): "reader",
    ("GET", "/v1/releases/{digest}/attestations/{name:path}"): "reader",
    ("GET", "/v1/releases/{digest}/report"): "reader",
    ("GET", "/v1/releases/{digest}/recall"): "reader",
    ("GET", "/v1/provenance/{digest}"): "reader",
    ("GET", "/v1/log/checkpoint"): "reader",
    ("GET", "/v1/log/inclusion"): "reader",
    ("GET", "/v1/log/consistency"): "reader",
    ("GET", "/v1/log/entries/{index}"): "reader",
    ("GET", "/v1/log/tile/{path:path}"): "reader",
    ("GET", "/v1/keys"): "reader",
    ("GET", "/v1/keys/trust-policy"): "reader",
    ("GET", "/v1/trust/{path:path}"): "reader",
    ("GET", "/v1/whoami"): "reader",
    ("POST", "/v1/verify"): "reader",
    ("POST", "/v1/identify"): "auditor",
    ("POST", "/v1/identify/answers"): "auditor",
    ("GET", "/v1/identify/queries"): "auditor",
    ("POST", "/v1/decisions/{digest}/approvals"): "approver",
    ("POST", "/v1/decisions/{digest}/waivers"): "approver",
    ("POST", "/v1/decisions/{digest}/release"): "auditor",
    ("POST", "/v1/releases/{digest}/recall"): "approver",
    ("POST", "/v1/releases/{digest}/return"): "approver",
    ("POST", "/v1/uploads"): "submitter",
    ("GET", "/v1/questionnaire"): "reader",
    ("GET", "/v1/documents"): "reader",
    ("GET", "/v1/documents/{digest}"): "reader",
    ("GET", "/v1/documents/{digest}/file"): "reader",
    ("POST", "/v1/documents"): "submitter",
    ("POST", "/v1/documents/{digest}/review"): "auditor",
    ("GET", "/v1/answers"): "reader",
    ("GET", "/v1/answers/{digest}"): "reader",
    ("POST", "/v1/answers"): "auditor",
    ("GET", "/v1/change-plans"): "reader",
    ("GET", "/v1/change-plans/{digest}"): "reader",
    ("POST", "/v1/change-plans"): "submitter",
    ("POST", "/v1/change-plans/{digest}/review"): "auditor",
    ("GET", "/v1/change-verdicts"): "reader",
    ("GET", "/v1/change-verdicts/{digest}"): "reader",
    ("POST", "/v1/change-verdicts"): "auditor",
    ("POST", "/v1/change-verdicts/{digest}/review"): "approver",
    ("POST", "/v1/answers/{digest}/review"): "approver",
    ("GET", "/v1/incidents"): "reader",
    ("GET", "/v1/incidents/{digest}"): "reader",
    ("POST", "/v1/incidents"): "auditor",
    ("POST", "/v1/incidents/{digest}/report"): "auditor",
    ("GET", "/v1/incident-watches"): "reader",
    ("GET", "/v1/incident-watches/{digest}"): "reader",
    ("POST", "/v1/incident-watches"): "auditor",
    ("GET", "/v1/frameworks"): "reader",
    ("GET", "/v1/frameworks/{framework}"): "reader",
    ("GET", "/v1/shipped-policies"): "reader",
    ("GET", "/v1/shipped-policies/{name}"): "reader",
    ("POST", "/v1/policies/dry-run"): "reader",
    ("GET", "/login/out"): "anyone",
    ("GET", "/login/back"): "anyone",
    ("POST", "/v1/mlflow/events"): "signed",
    ("GET", "/v1/receivers"): "admin",
    ("POST", "/v1/receivers"): "admin",
    ("DELETE", "/v1/receivers/{id}"): "admin",
    ("GET", "/v1/deliveries"): "admin",
    ("POST", "/v1/deliveries/{id}/send"): "admin",
    ("POST", "/v1/jobs/prune"): "submitter",
    ("POST", "/v1/jobs/admit"): "submitter",
    ("POST", "/v1/jobs/audit"): "auditor",
    ("POST", "/v1/jobs/release"): "auditor",
    ("POST", "/v1/jobs/report"): "auditor",
    ("POST", "/v1/jobs/monitor"): "auditor",
    ("GET", "/v1/jobs"): "reader",
    ("GET", "/v1/jobs/{id}"): "reader",
    ("POST", "/v1/jobs/{id}/cancel"): "auditor",
    ("POST", "/v1/jobs/{id}/retry"): "auditor",
    ("GET", "/v1/jobs/{id}/events"): "reader",
    ("GET", "/v1/tokens"): "admin",
    ("POST", "/v1/tokens"): "admin",
    ("DELETE", "/v1/tokens/{id}"): "admin",
}
"""Method and path, and the role that a caller needs.

``anyone`` needs no token at all; ``signed`` needs none either, but the request must be signed with a secret that both
sides know, which its route checks.
"""


pass


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
