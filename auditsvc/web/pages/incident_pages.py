"""The forms of the register of incidents: one that is known, the report to the authority, and who watched.

Each ends in the API's own verb, under the same role.
"""

from __future__ import annotations

import datetime
from typing import Any, get_args

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from auditsvc.compliance.assessment.attestations import REPORTING_DAYS, Harm
from auditsvc.records import Parent, Submission
from auditsvc.web.authentication import site_of
from auditsvc.web.pages.forms import Form, given_as
from auditsvc.web.pages.statement_pages import SHOWN, back
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import page
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.v1 import incidents

router = APIRouter(route_class=RoleRoute, include_in_schema=False)


def _form(request: Request, template: str, **facts: Any) -> HTMLResponse:
    site = site_of(request)
    models = sorted({item.model for _, item in site.ledger.page(Parent, limit=SHOWN)})
    now = site.clock.now()
    today = now.date()
    known: dict[str, Any] = {"models": models, "now": now, "today": today}
    known["a_month_ago"] = today - datetime.timedelta(days=30)
    return page(request, template, "/statements", **known, **facts)


@router.get("/statements/incidents")
def incident_form(request: Request) -> HTMLResponse:
    """Where a serious incident is registered."""
    versions = [item for _, item in site_of(request).ledger.page(Submission, limit=SHOWN)]
    harms = [(harm, REPORTING_DAYS[harm]) for harm in get_args(Harm)]
    return _form(request, "say_incident.html", harms=harms, versions=versions)


@router.post("/statements/incidents")
def known(request: Request, given: Form) -> Response:
    """An incident under the sender's name."""
    fields = {**given, "aware": _moment(given.get("aware", ""))}
    incidents.know(request, given_as(incidents.Knowing, fields))
    return back()


@router.post("/statements/incidents/{digest}/report")
def reported(request: Request, digest: ADigest, given: Form) -> Response:
    """The authority was told."""
    fields = {**given, "reported": _moment(given.get("reported", ""))}
    incidents.report(request, digest, given_as(incidents.Reporting, fields))
    return back()


@router.get("/statements/watches")
def watch_form(request: Request) -> HTMLResponse:
    """Where somebody says that they watched for incidents."""
    return _form(request, "say_watch.html")


@router.post("/statements/watches")
def watched(request: Request, given: Form) -> Response:
    """A watch under the sender's name."""
    incidents.watch(request, given_as(incidents.Watching, given))
    return back()


def _moment(text: str) -> str:
    """A field for day and time has no zone; the service's own is UTC, and the form says so."""
    return f"{text}+00:00" if text and "+" not in text and not text.endswith("Z") else text
