"""Serious incidents (Art. 73 of the EU AI Act) and incident watches, under the name of the token's holder.

The rules are in ``auditsvc.services.incidents``.
"""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from auditsvc.compliance import Incident, Watch
from auditsvc.services.incidents import (
    IncidentDraft,
    IncidentReport,
    WatchDraft,
    add_incident,
    add_watch,
    report_incident,
)
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import ADigest, get_record, record_router

router = Router(tags=["incidents"])

record_router(router, Incident, "/v1/incidents", names=("incident", "incidents"), about="A model's name.")
record_router(
    router, Watch, "/v1/incident-watches", names=("incident_watch", "incident_watches"), about="A model's name."
)


@router.post("/v1/incidents", needs="auditor", status_code=201, response_model=Incident, summary="Register an incident")
def create_incident(request: Request, draft: IncidentDraft) -> Response:
    """The report to the authority is due within 15 days of awareness, 10 days for a death, and 2 days for critical
    infrastructure or a widespread infringement."""
    made = add_incident(site_of(request).ctx, draft, request.state.caller.name)
    return get_record(request, made, 201, "/v1/incidents")


@router.post(
    "/v1/incidents/{digest}/reports",
    needs="auditor",
    status_code=201,
    response_model=Incident,
    summary="Record the report to the authority",
)
def create_incident_report(request: Request, digest: ADigest, report: IncidentReport) -> Response:
    """The incident was reported; this stops its deadline."""
    made = report_incident(site_of(request).ctx, digest, report, request.state.caller.name)
    return get_record(request, made, 201, "/v1/incidents")


@router.post(
    "/v1/incident-watches", needs="auditor", status_code=201, response_model=Watch, summary="Record an incident watch"
)
def create_incident_watch(request: Request, draft: WatchDraft) -> Response:
    """You watched on these days and know of no incident other than those registered."""
    made = add_watch(site_of(request).ctx, draft, request.state.caller.name)
    return get_record(request, made, 201, "/v1/incident-watches")
