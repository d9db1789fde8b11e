"""All routes, in the order in which the API's page shows them."""

from __future__ import annotations

from starlette.routing import BaseRoute

from auditsvc.web import openapi, pages
from auditsvc.web.v1 import (
    candidates,
    decisions,
    gate,
    health,
    identify,
    incidents,
    jobs,
    log,
    policies,
    releases,
    statements,
    terms,
    tokens,
    uploads,
    verify,
    webhooks,
)

_KINDS = (
    gate,
    candidates,
    decisions,
    releases,
    jobs,
    verify,
    identify,
    uploads,
    policies,
    terms,
    statements,
    incidents,
    log,
    tokens,
    webhooks,
    health,
    openapi,
)
ROUTERS = (*(module.router for module in _KINDS), *pages.routers)


def all_routes() -> list[BaseRoute]:
    """Every route of the service; each of them has looked up its role when it was made."""
    return [route for router in ROUTERS for route in router.routes]
