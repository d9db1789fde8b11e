"""Is it alive, is it ready, what has it counted."""

from __future__ import annotations

import logging
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from auditsvc import __version__
from auditsvc.errors import AuditError, Unavailable
from auditsvc.web import service_metrics
from auditsvc.web.role_routes import RoleRoute

router = APIRouter(route_class=RoleRoute, tags=["operation"])


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"
    version: str = __version__


class Ready(BaseModel):
    """The ledger answers too."""

    status: Literal["ready"] = "ready"
    log_size: int


@router.get("/healthz", summary="Is the process alive?")
async def healthz() -> Alive:
    """Answers as long as the process can; looks at nothing else."""
    return Alive()


@router.get("/readyz", summary="Can it answer questions?")
def readyz(request: Request) -> Ready:
    """Reads the ledger; `503` when it can't.  Where it lies and why it failed is in the log, not in the answer."""
    try:
        return Ready(log_size=request.app.state.site.ledger.size())
    except AuditError as error:
        logging.getLogger("auditsvc.web").warning("not ready: %s", error)
        raise Unavailable("the ledger can't be read; the service's log says why") from error


@router.get("/metrics", summary="What the service has counted", response_class=Response)
async def exposition(request: Request) -> Response:
    """Requests by route and status, their times, the size of the log, answers remembered; as OpenMetrics."""
    site = request.app.state.site
    text = site.metrics.text(gate_answers_remembered=len(site.answers))
    return Response(text, media_type=service_metrics.MEDIA_TYPE)
