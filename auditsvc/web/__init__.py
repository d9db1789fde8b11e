"""The service: the use cases of the command line, over HTTP.

``app``                        opens the store, binds the address, shuts down gracefully
``middleware``, ``connection_limits`` host check, body limits, security headers, request limits
``auth``                       tokens, sessions, OIDC login, and the role that each route requires
``problems``                   errors as Problem Details (RFC 9457) with stable codes
``v1``, ``pages``              the routes; they contain no logic and call ``auditsvc.services`` or read the ledger

Neither torch nor MLflow is imported here; the few routes that need them import them when they are called.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.routing import BaseRoute

from auditsvc import __version__
from auditsvc.web import openapi, pages, problems
from auditsvc.web.middleware import SecurityMiddleware
from auditsvc.web.state import ProjectState
from auditsvc.web.v1 import (
    decisions,
    gate,
    health,
    jobs,
    log,
    monitoring,
    policies,
    releases,
    statements,
    uploads,
    verify,
    webhooks,
)

ROUTERS = (
    *(gate.router, decisions.candidate_router),
    *(module.router for module in (decisions, releases, monitoring, jobs, verify, uploads, policies)),
    *(policies.terms_router, statements.router, statements.incident_router),
    *(log.router, webhooks.token_router, webhooks.router, health.router, openapi.router),
    *pages.routers,
)
"""All routes, in the order in which the API's page shows them."""


def all_routes() -> list[BaseRoute]:
    """Every route of the service; each of them has looked up its role when it was made."""
    return [route for router in ROUTERS for route in router.routes]


def create_app(site: ProjectState) -> FastAPI:
    """The application that serves this site: all routes, each with its role, and one handler for all errors.

    Traces are FastAPI's own, one span for each request; what they would log of faults could hold what was sent, so
    that is left out.

    Raises:
        InvalidInput: a route does not declare a role.
    """
    app = FastAPI(
        title="auditsvc",
        version=__version__,
        summary="Decides, with evidence that anyone can check, whether a pruned vision model may be released.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        telemetry={"metrics": False, "logs": False, "operation_spans": False, "auto_configure": site.traces},
    )
    app.state.site = site
    app.router.routes.extend(all_routes())
    problems.install(app)
    openapi.install(app)
    app.middleware_stack = SecurityMiddleware(app.build_middleware_stack(), site)
    return app
