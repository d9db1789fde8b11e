"""Health, readiness and metrics."""

from __future__ import annotations

import logging
from typing import Literal

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from auditsvc import __version__
from auditsvc.errors import AuditError, LogMismatch, StorageFull, Unavailable
from auditsvc.web import service_metrics
from auditsvc.web.auth.authentication import Router
from auditsvc.web.state import ProjectState

router = Router(tags=["operations"])


class Health(BaseModel):
    """The process is running."""

    status: Literal["alive"] = "alive"
    version: str = __version__


class Readiness(BaseModel):
    """The store can be read and written, and the ledger follows from its log; ``degraded`` names what does not work."""

    status: Literal["ready", "degraded"] = "ready"
    log_size: int
    degraded: list[Literal["registry-watch"]] = []


@router.get("/healthz", needs="anyone", summary="Get health")
async def get_health() -> Health:
    """Answers while the process runs; checks nothing else."""
    return Health()


@router.get("/readyz", needs="anyone", summary="Get readiness")
def get_readiness(request: Request) -> Readiness:
    """Reads the ledger and writes to the store's disk; `503` if it can't, or if the ledger differs from its log.

    `degraded` with `registry-watch` if a model's entries in the registry can't be checked. Location and cause are in
    the service's log, not in the answer.
    """
    site: ProjectState = request.app.state.site
    try:
        size = site.ledger.size()
        for one in site.opened():
            one.require_writable()
            one.require_intact()
    except LogMismatch as error:
        raise LogMismatch("the ledger does not follow from its log; the service's log says where") from error
    except StorageFull as error:
        logging.getLogger("auditsvc.web").warning("not ready: %s", error)
        raise Unavailable("the store's disk is full; the service's log says which") from error
    except AuditError as error:
        logging.getLogger("auditsvc.web").warning("not ready: %s", error)
        raise Unavailable("the store can't be read or written; the service's log says why") from error
    if any(one.watch_faults for one in site.opened()):
        return Readiness(status="degraded", log_size=size, degraded=["registry-watch"])
    return Readiness(log_size=size)


@router.get("/metrics", needs="reader", summary="Get metrics", response_class=Response)
async def get_metrics(request: Request) -> Response:
    """Requests by route and status, their times, the size of the log, answers remembered; as OpenMetrics."""
    site = request.app.state.site
    text = site.metrics.exposition(cached_answers=len(site.answers))
    return Response(text, media_type=service_metrics.MEDIA_TYPE)
