"""Health, readiness and metrics."""

from __future__ import annotations

import logging
from typing import Literal

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from auditsvc import __version__
from auditsvc.errors import AuditError, Unavailable
from auditsvc.web import service_metrics
from auditsvc.web.auth.authentication import Router

router = Router(tags=["operations"])


class Health(BaseModel):
    """The process is running."""

    status: Literal["alive"] = "alive"
    version: str = __version__


class Readiness(BaseModel):
    """The ledger can be read."""

    status: Literal["ready"] = "ready"
    log_size: int


@router.get("/healthz", needs="anyone", summary="Get health")
async def get_health() -> Health:
    """Answers while the process runs; checks nothing else."""
    return Health()


@router.get("/readyz", needs="anyone", summary="Get readiness")
def get_readiness(request: Request) -> Readiness:
    """Reads the ledger; `503` if it can't. Location and cause are in the service's log, not in the answer."""
    try:
        return Readiness(log_size=request.app.state.site.ledger.size())
    except AuditError as error:
        logging.getLogger("auditsvc.web").warning("not ready: %s", error)
        raise Unavailable("the ledger can't be read; the service's log says why") from error


@router.get("/metrics", needs="reader", summary="Get metrics", response_class=Response)
async def get_metrics(request: Request) -> Response:
    """Requests by route and status, their times, the size of the log, answers remembered; as OpenMetrics."""
    site = request.app.state.site
    text = site.metrics.exposition(cached_answers=len(site.answers))
    return Response(text, media_type=service_metrics.MEDIA_TYPE)
