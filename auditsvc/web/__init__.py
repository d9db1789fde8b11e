"""The service: the same verbs as the command line, over HTTP.

The parts, from the outside in
------------------------------
serving
    Opens the store, binds the address, stops gracefully.
guarding, identity, roles
    Who may come in: hosts, body limits and headers; tokens; one table of every route and the role it needs.
problems
    Every error as Problem Details (RFC 9457) with a stable code.
gate, health, ... (one file for each kind of record)
    The routes.  They hold no logic of their own: each calls a verb of ``pipeline`` or reads the ledger.

Neither torch nor MLflow is imported here; the few routes that need them import them when they are called.
"""

from __future__ import annotations

from fastapi import FastAPI

from auditsvc import __version__
from auditsvc.web import openapi, problems, routes
from auditsvc.web.middleware import SecurityMiddleware
from auditsvc.web.state import ProjectState


def create_app(site: ProjectState) -> FastAPI:
    """The application that serves this site: all routes, each with its role, and one handler for all errors.

    Traces are FastAPI's own, one span for each request; what they would log of faults could hold what was sent, so
    that is left out.

    Raises:
        InvalidInput: a route that nobody gave a role; it would be open or dead.
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
    app.router.routes.extend(routes.all_routes())
    problems.install(app)
    openapi.install(app)
    app.middleware_stack = SecurityMiddleware(app.build_middleware_stack(), site)
    return app
