"""All routes, in the order in which the API's page shows them."""

from __future__ import annotations

from starlette.routing import BaseRoute

from auditsvc.api import docs, gate, health

ROUTERS = (gate.router, health.router, docs.router)


def all_routes() -> list[BaseRoute]:
    """Every route of the service; each of them has looked up its role when it was made."""
    return [route for router in ROUTERS for route in router.routes]
