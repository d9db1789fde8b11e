"""Serious incidents (Art. 73 of the EU AI Act) and incident watches, under the name of the token's holder.

The rules are in ``auditsvc.services.incidents``.
"""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from auditsvc.compliance.assessment.attestations import Incident, Watch
from auditsvc.services.incidents import (
    IncidentDraft,
    IncidentReport,
    WatchDraft,
    add_incident,
    add_watch,
    report_incident,
)
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import ADigest, created, record_router

router = Router(tags=["incidents"])

record_router(router, Incident, "incidents", about="A model's name.")
record_router(router, Watch, "incident_watches", singular="incident_watch", about="A model's name.")


@router.post("/v1/incidents", needs="auditor", creates=Incident, summary="Register an incident")
def create_incident(request: Request, draft: IncidentDraft) -> Response:
    """The report to the authority is due within 15 days of awareness, 10 days for a death, and 2 days for critical
    infrastructure or a widespread infringement."""
    return created(add_incident(site_of(request).ctx, draft, request.state.caller.name))


@router.post(
    "/v1/incidents/{digest}/reports", needs="auditor", creates=Incident, summary="Record the report to the authority"
)
def create_incident_report(request: Request, digest: ADigest, report: IncidentReport) -> Response:
    """The incident was reported; this stops its deadline."""
    return created(report_incident(site_of(request).ctx, digest, report, request.state.caller.name))


@router.post("/v1/incident-watches", needs="auditor", creates=Watch, summary="Record an incident watch")
def create_incident_watch(request: Request, draft: WatchDraft) -> Response:
    """You watched on these days and know of no incident other than those registered."""
    return created(add_watch(site_of(request).ctx, draft, request.state.caller.name))
