"""Background work: ask for it, watch it, stop it, try it again.

What a job does is done by workers (``auditsvc worker``); here it is only put into the queue and looked at.  A job that
was taken (202) survives the death of this service and of every worker.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from auditsvc.errors import InvalidInput
from auditsvc.records import (
    ENDS,
    AdmitRequest,
    AuditRequest,
    Candidate,
    Decision,
    Job,
    JobId,
    JobRequest,
    JobState,
    MonitorRequest,
    Parent,
    Policy,
    PruneRequest,
    Release,
    ReleaseRequest,
    ReportRequest,
)
from auditsvc.web.authentication import site_of
from auditsvc.web.record_routes import Limit
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

router = APIRouter(route_class=RoleRoute, tags=["jobs"])

LOOK_S = 0.5
"""Between two looks for news of a job, in seconds."""

JobKind = Literal["prune", "admit", "audit", "release", "report", "monitor"]

_TAKEN: dict[str, Any] = {"status_code": 202, "response_model": Job}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "It ended."},
}
_UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "As you know it."}}


class JobPage(BaseModel):
    """Jobs, newest first; `next` is null on the last page."""

    items: list[Job]
    next: JobId | None = None


def _take(request: Request, order: JobRequest) -> Response:
    site = site_of(request)
    job = site.jobs.submit(order, request.state.caller.name)
    site.trigger("working")
    return _shown(job, 202, {"location": f"/v1/jobs/{job.id}"})


def _shown(job: Job, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(job.model_dump_json(), status, headers, "application/json")


@router.post("/v1/jobs/prune", **_TAKEN, summary="Prune, mark and submit")
def prune(request: Request, order: PruneRequest) -> Response:
    """A registered parent is pruned by a recipe, marked, loaded again in a clean process, and submitted by you."""
    site_of(request).ledger.get(Parent, order.parent)
    return _take(request, order)


@router.post("/v1/jobs/admit", **_TAKEN, summary="Admit and submit")
def admit(request: Request, order: AdmitRequest) -> Response:
    """A candidate that was pruned elsewhere is admitted, from files that were sent to `/v1/uploads` or a version of the
    registry, submitted by you, and audited at once if a policy and data are named."""
    site_of(request).ledger.get(Parent, order.parent)
    return _take(request, order)


@router.post("/v1/jobs/audit", **_TAKEN, summary="Measure, judge and report")
def audit(request: Request, order: AuditRequest) -> Response:
    """A candidate is measured beside its parent on a data set of the service's data folder, judged, and reported on."""
    ledger = site_of(request).ledger
    ledger.get(Candidate, order.candidate)
    if order.policy.startswith("sha256:"):
        ledger.get(Policy, order.policy)
    return _take(request, order)


@router.post("/v1/jobs/release", **_TAKEN, summary="Seal and release")
def release(request: Request, order: ReleaseRequest) -> Response:
    """The candidate of an approved decision is signed, attested and logged, and the registry's alias moved to it."""
    site_of(request).ledger.get(Decision, order.decision)
    return _take(request, order)


@router.post("/v1/jobs/report", **_TAKEN, summary="Write a report again")
def report(request: Request, order: ReportRequest) -> Response:
    """The report of a decision, in these formats; the same records give the same bytes."""
    site_of(request).ledger.get(Decision, order.decision)
    return _take(request, order)


@router.post("/v1/jobs/monitor", **_TAKEN, summary="Look at a release in use")
def monitor(request: Request, order: MonitorRequest) -> Response:
    """A release is verified, and the quick checks of its policy are run and judged again on newer images.

    What fell since its audit is told; nothing is moved by it."""
    site_of(request).ledger.get(Release, order.release)
    return _take(request, order)


@router.get("/v1/jobs", response_model=JobPage, summary="Jobs")
def several(
    request: Request,
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    cursor: Annotated[JobId | None, Query(description="Where to go on: `next` of the page before.")] = None,
    limit: Limit = 20,
) -> JobPage:
    """Newest first."""
    found = site_of(request).jobs.page(kind=kind or "", state=state, before=cursor, limit=limit + 1)
    return JobPage(items=list(found[:limit]), next=found[limit - 1].id if len(found) > limit else None)


@router.get("/v1/jobs/{id}", response_model=Job, responses=_UNCHANGED, summary="One job")
def one(request: Request, id: JobId) -> Response:
    """How it stands: `queued`, `running`, `done` with its result, `failed` with its fault, or `cancelled`."""
    job = site_of(request).jobs.get(id)
    tag = f'"{hashlib.sha256(job.model_dump_json().encode()).hexdigest()[:32]}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(None, 304, {"etag": tag})
    return _shown(job, headers={"etag": tag})


@router.post("/v1/jobs/{id}/cancel", response_model=Job, summary="Stop a job")
def cancel(request: Request, id: JobId) -> Response:
    """At once if it waits, else at its next sign of life; what it finished is kept."""
    return _shown(site_of(request).jobs.cancel(id))


@router.post("/v1/jobs/{id}/retry", response_model=Job, summary="Try a job again")
def retry(request: Request, id: JobId) -> Response:
    """A job that failed or was cancelled is queued again; evidence that was measured is found, not measured twice."""
    site = site_of(request)
    job = site.jobs.retry(id)
    site.trigger("working")
    return _shown(job)


@router.get("/v1/jobs/{id}/events", response_class=StreamingResponse, responses=_STREAM, summary="What a job tells")
async def events(
    request: Request,
    id: JobId,
    wait: Annotated[int, Query(ge=0, le=60, description="Seconds to wait for more before the stream ends.")] = 30,
    seen: Annotated[str, Header(alias="last-event-id", max_length=20)] = "",
) -> Response:
    """Server-sent events: `progress` for each thing it tells, `end` with the job when it is over.

    The stream ends after a while; a browser connects again by itself and goes on behind `Last-Event-ID`.
    """
    site = site_of(request)
    job = await run_in_threadpool(site.jobs.get, id)
    if seen == "end" and job.state in ENDS:
        return Response(None, 204)
    if seen not in ("", "end") and not seen.isdecimal():
        raise InvalidInput("Last-Event-ID is the id of an event that came before; leave it out to begin at the first")
    after = int(seen) if seen.isdecimal() else 0
    return StreamingResponse(_told(site, id, after, wait), media_type="text/event-stream")


async def _told(site: ProjectState, job: JobId, after: int, wait_s: float) -> AsyncIterator[str]:
    """News as it comes.  The state is read before the news, so that nothing is told after the end."""
    until = time.monotonic() + wait_s
    while True:
        found = await run_in_threadpool(site.jobs.get, job)
        for event in await run_in_threadpool(site.jobs.events, job, after):
            after = event.number
            yield f"id: {after}\nevent: progress\ndata: {event.model_dump_json()}\n\n"
        if found.state in ENDS:
            yield f"id: end\nevent: end\ndata: {found.model_dump_json()}\n\n"
            return
        if time.monotonic() >= until:
            return
        await asyncio.sleep(LOOK_S)
