"""Background jobs: create, follow, cancel, retry.

Workers (``auditsvc worker``) run the jobs; these routes only queue and read them. An accepted job (202) survives a
crash of the service and of every worker.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Header, Query, Request
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
    ParentRequest,
    Policy,
    PruneRequest,
    Release,
    ReleaseRequest,
    ReportRequest,
)
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import Limit, is_current
from auditsvc.web.state import ProjectState

router = Router(tags=["jobs"])

POLL_S = 0.5
"""Seconds between two polls for events of a job."""

JobKind = Literal["parent", "prune", "admit", "audit", "release", "report", "monitor"]

_ACCEPTED: dict[str, Any] = {"status_code": 202, "response_model": Job}
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "The job has ended."},
}
_UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "Not modified."}}


class JobPage(BaseModel):
    """Jobs, newest first; `next` is null on the last page."""

    items: list[Job]
    next: JobId | None = None


def _submit(request: Request, job_request: JobRequest) -> Response:
    site = site_of(request)
    job = site.jobs.submit(job_request, request.state.caller.name)
    site.trigger("working")
    return _response(job, 202, {"location": f"/v1/jobs/{job.id}"})


def _response(job: Job, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(job.model_dump_json(), status, headers, "application/json")


@router.post("/v1/jobs/parent", needs="submitter", **_ACCEPTED, summary="Register a parent")
def create_parent_job(request: Request, order: ParentRequest) -> Response:
    """Registers a dense model, from files of `/v1/uploads` or a reference, in any format that the command line reads;
    `describe` says what the files do not: architecture, classes, input, preprocessing, output layout."""
    return _submit(request, order)


@router.post("/v1/jobs/prune", needs="submitter", **_ACCEPTED, summary="Prune a model")
def create_prune_job(request: Request, order: PruneRequest) -> Response:
    """Prunes a registered parent by a recipe, embeds the watermark, checks the round trip in a clean process, and
    submits the candidate under your name."""
    site_of(request).ledger.get(Parent, order.parent)
    return _submit(request, order)


@router.post("/v1/jobs/admit", needs="submitter", **_ACCEPTED, summary="Import a candidate")
def create_admit_job(request: Request, order: AdmitRequest) -> Response:
    """Imports a candidate that was pruned elsewhere, from files of `/v1/uploads` or from a registry version, and
    submits it under your name. With a policy and a data set, it is audited too."""
    site_of(request).ledger.get(Parent, order.parent)
    return _submit(request, order)


@router.post("/v1/jobs/audit", needs="auditor", **_ACCEPTED, summary="Audit a candidate")
def create_audit_job(request: Request, order: AuditRequest) -> Response:
    """Measures a candidate and its parent on a data set of the service, decides, and writes the report."""
    ledger = site_of(request).ledger
    ledger.get(Candidate, order.candidate)
    if order.policy.startswith("sha256:"):
        ledger.get(Policy, order.policy)
    return _submit(request, order)


@router.post("/v1/jobs/release", needs="auditor", **_ACCEPTED, summary="Release a candidate")
def create_release_job(request: Request, order: ReleaseRequest) -> Response:
    """Signs, attests and logs the candidate of an approved decision, then moves the registry alias to it."""
    site_of(request).ledger.get(Decision, order.decision)
    return _submit(request, order)


@router.post("/v1/jobs/report", needs="auditor", **_ACCEPTED, summary="Write a report")
def create_report_job(request: Request, order: ReportRequest) -> Response:
    """Writes the report of a decision in the given formats. The same records give the same bytes."""
    site_of(request).ledger.get(Decision, order.decision)
    return _submit(request, order)


@router.post("/v1/jobs/monitor", needs="auditor", **_ACCEPTED, summary="Monitor a release")
def create_monitor_job(request: Request, order: MonitorRequest) -> Response:
    """Verifies a release, counts what was observed of it, and repeats the quick checks of its policy on newer images.

    The result lists what changed since the audit. The registry alias doesn't change."""
    site_of(request).ledger.get(Release, order.release)
    return _submit(request, order)


@router.get("/v1/jobs", needs="reader", response_model=JobPage, summary="List jobs")
def list_jobs(
    request: Request,
    kind: Annotated[JobKind | None, Query(description="Only jobs of this kind.")] = None,
    state: Annotated[JobState | None, Query(description="Only jobs in this state.")] = None,
    cursor: Annotated[JobId | None, Query(description="`next` of the previous page.")] = None,
    limit: Limit = 20,
) -> JobPage:
    """Newest first."""
    found = site_of(request).jobs.page(kind=kind or "", state=state, before=cursor, limit=limit + 1)
    return JobPage(items=list(found[:limit]), next=found[limit - 1].id if len(found) > limit else None)


@router.get("/v1/jobs/{id}", needs="reader", response_model=Job, responses=_UNCHANGED, summary="Get one job")
def get_job(request: Request, id: JobId) -> Response:
    """Its state: `queued`, `running`, `done` with the result, `failed` with the error, or `cancelled`."""
    job = site_of(request).jobs.get(id)
    tag = f'"{hashlib.sha256(job.model_dump_json().encode()).hexdigest()[:32]}"'
    if is_current(request, tag):
        return Response(None, 304, {"etag": tag})
    return _response(job, headers={"etag": tag})


@router.post("/v1/jobs/{id}/cancel", needs="auditor", response_model=Job, summary="Cancel a job")
def cancel_job(request: Request, id: JobId) -> Response:
    """A queued job is cancelled at once, a running one at its next heartbeat. Finished steps are kept."""
    return _response(site_of(request).jobs.cancel(id))


@router.post("/v1/jobs/{id}/retry", needs="auditor", response_model=Job, summary="Retry a job")
def retry_job(request: Request, id: JobId) -> Response:
    """Queues a failed or cancelled job again. Evidence that was measured is read from the cache."""
    site = site_of(request)
    job = site.jobs.retry(id)
    site.trigger("working")
    return _response(job)


@router.get(
    "/v1/jobs/{id}/events",
    needs="reader",
    response_class=StreamingResponse,
    responses=_STREAM,
    summary="Stream the events of a job",
)
async def stream_job_events(
    request: Request,
    id: JobId,
    wait: Annotated[
        int, Query(ge=0, le=60, description="Seconds to wait for more events before the stream ends.")
    ] = 30,
    seen: Annotated[str, Header(alias="last-event-id", max_length=20)] = "",
) -> Response:
    """Server-sent events: `progress` for each event, and `end` with the job when it has ended.

    The stream ends after `wait` seconds; a browser reconnects by itself and continues after `Last-Event-ID`.
    """
    site = site_of(request)
    job = await run_in_threadpool(site.jobs.get, id)
    if seen == "end" and job.state in ENDS:
        return Response(None, 204)
    if seen not in ("", "end") and not seen.isdecimal():
        raise InvalidInput("Last-Event-ID must be the id of an earlier event; leave it out to start at the first")
    after = int(seen) if seen.isdecimal() else 0
    return StreamingResponse(_events(site, id, after, wait), media_type="text/event-stream")


async def _events(site: ProjectState, job: JobId, after: int, wait_s: float) -> AsyncIterator[str]:
    """New events as they come. The state is read before the events, so that no event follows the end."""
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
        await asyncio.sleep(POLL_S)
