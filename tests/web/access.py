"""Every route with the access that it declares."""

from __future__ import annotations

from auditsvc.web import all_routes
from auditsvc.web.auth.authentication import RoleRoute
from auditsvc.web.auth.token_store import Access

ROUTES: dict[tuple[str, str], Access] = {
    (method, route.path): route.needs
    for route in all_routes()
    if isinstance(route, RoleRoute)
    for method in route.methods
}
