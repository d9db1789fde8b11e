"""The log as a page: how far it has grown, what happened last, and where to check it."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from auditsvc.api.checkpoints import current_checkpoint
from auditsvc.api.identity import site_of
from auditsvc.api.rendering import page
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site

router = APIRouter(route_class=RoleRoute, include_in_schema=False)

SHOWN = 60

PLACES = {"candidate": "/candidates", "decision": "/decisions"}
"""Kinds that have a page; the others are read from the API."""


@router.get("/log")
def logbook(request: Request, before: int | None = None) -> HTMLResponse:
    """The newest entries, or those before one of them."""
    site: Site = site_of(request)
    size = site.ledger.size()
    end = size if before is None else max(0, min(before, size))
    start = max(0, end - SHOWN)
    entries = [(index, _told(site.ledger.leaf(index))) for index in range(end - 1, start - 1, -1)]
    checkpoint = current_checkpoint(site)
    return page(request, "log.html", "/log", entries=entries, start=start, size=size, checkpoint=checkpoint)


def _told(leaf: bytes) -> dict[str, Any]:
    """An event's fields; a leaf that is no event is a signature that was logged."""
    try:
        event = json.loads(leaf)
    except ValueError:
        event = None
    if not isinstance(event, dict) or event.get("kind") != "auditsvc.event":
        return {"type": "signature", "actor": "", "at": "", "object": "", "href": ""}
    about = str(event.get("object", ""))
    place = PLACES.get(event["type"])
    href = (f"{place}/{about}" if place else f"/v1/provenance/{about}") if about.startswith("sha256:") else ""
    return {"type": event["type"], "actor": event["actor"], "at": event["at"], "object": about, "href": href}
