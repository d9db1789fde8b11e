"""The register of serious incidents (Art. 73 of the EU AI Act), and who watched for any.

Everything is filed under the name of the token's holder.  What is registered stays; a report to the authority is the
same incident again, and the newest record of a case counts.
"""

from __future__ import annotations

import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field
from starlette.responses import Response

from auditsvc.compliance import Incident, Watch
from auditsvc.compliance.assessment.attestations import Harm
from auditsvc.records import Digest, Moment, Name, Text
from auditsvc.services.statements import record_incident, record_watch, reported_incident
from auditsvc.web.authentication import site_of
from auditsvc.web.record_routes import ADigest, get_record, record_router
from auditsvc.web.role_routes import RoleRoute

router = APIRouter(route_class=RoleRoute, tags=["incidents"])

record_router(router, Incident, "/v1/incidents", many="Incidents", about="of", means="A model's name.")
record_router(router, Watch, "/v1/incident-watches", many="Watches for incidents", about="of", means="A model's name.")


class Knowing(BaseModel):
    """A serious incident, and when somebody knew of it first."""

    model: Name
    candidate: Digest | None = None
    harm: Harm
    words: Text
    aware: Annotated[Moment, Field(description="The clock of Art. 73 starts here.")]


class Reporting(BaseModel):
    """Which authority was told, and when."""

    authority: Annotated[str, Field(min_length=1, max_length=300)]
    reference: Annotated[str, Field(max_length=300, description="The authority's own number for it.")] = ""
    reported: Moment


class Watching(BaseModel):
    """Days in which somebody watched for incidents."""

    model: Name
    since: datetime.date
    until: datetime.date
    words: Annotated[Text, Field(description="How: which reports, logs and people were asked.")]


@router.post("/v1/incidents", status_code=201, response_model=Incident, summary="Register an incident")
def know(request: Request, given: Knowing) -> Response:
    """Under your name; it is due at the authority 15 days after somebody knew, 10 for a death, 2 for infrastructure or
    what is widespread."""
    ledger, now = site_of(request).ledger, site_of(request).clock.now()
    person = request.state.caller.name
    made = record_incident(given.model, given.harm, given.words, given.aware, person, given.candidate, ledger, now)
    return get_record(request, made, 201, "/v1/incidents")


@router.post("/v1/incidents/{digest}/report", status_code=201, response_model=Incident, summary="Say it was reported")
def report(request: Request, digest: ADigest, given: Reporting) -> Response:
    """Of an incident that is registered; it stops the clock."""
    ledger, now = site_of(request).ledger, site_of(request).clock.now()
    person = request.state.caller.name
    made = reported_incident(digest, given.authority, given.reference, given.reported, person, ledger, now)
    return get_record(request, made, 201, "/v1/incidents")


@router.post("/v1/incident-watches", status_code=201, response_model=Watch, summary="Say that you watched")
def watch(request: Request, given: Watching) -> Response:
    """Under your name: you know of no incident in these days beside those that are registered."""
    ledger, now = site_of(request).ledger, site_of(request).clock.now()
    made = record_watch(given.model, given.since, given.until, given.words, request.state.caller.name, ledger, now)
    return get_record(request, made, 201, "/v1/incident-watches")
