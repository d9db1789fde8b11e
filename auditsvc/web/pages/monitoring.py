"""The page of a release in use: how it is watched, open alarms, the evidence over time, and what was observed."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from markupsafe import Markup
from starlette.responses import HTMLResponse

from auditsvc.compliance.render.charts import evidence_chart
from auditsvc.records import AlarmMute, DriftAlarm, Monitoring, Release, WatchProposal, person_key
from auditsvc.services.incidents import incident_draft
from auditsvc.services.watching import open_drift, pending_watch, watch_settings
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import ADigest, form_route
from auditsvc.web.rendering import page
from auditsvc.web.v1 import monitoring

router = Router(include_in_schema=False)

SHOWN = 90
"""Runs on the chart."""


@router.get("/releases/{digest}/monitoring", needs="reader")
def monitoring_page(request: Request, digest: ADigest) -> HTMLResponse:
    """The settings are the monitoring plan; the chart has the strongest evidence of each run."""
    site, caller = site_of(request), request.state.caller
    ledger, now = site.ledger, site.clock.now()
    release = ledger.get(Release, digest)
    settings, pending = watch_settings(ledger, digest), pending_watch(ledger, digest)
    alarms = open_drift(ledger, digest, now)
    runs = [one for _, one in ledger.page(Monitoring, subject=digest, limit=SHOWN)][::-1]
    points = [
        (one.at, max((item.log10_e / item.limit for item in one.observed.streams), default=0.0))
        for one in runs
        if one.observed and settings and one.observed.settings == settings.digest
    ]
    observed = next((one.observed for one in runs[::-1] if one.observed), None)
    return page(
        request,
        "monitoring.html",
        "/models",
        release=release,
        settings=settings,
        pending=pending,
        may_confirm=pending and caller.may("approver") and person_key(pending.proposed_by) != person_key(caller.name),
        may_mute=caller.may("approver"),
        alarms=alarms,
        due=incident_draft(alarms[0])["due"] if alarms else {},
        mutes=[one for one in ledger.find(AlarmMute, digest) if one.until > now],
        chart=Markup(evidence_chart(points).svg) if points else "",  # noqa: S704 - escaped by the chart
        observed=observed,
        tomorrow=(now + datetime.timedelta(days=1)).date(),
    )


def _of_alarm(request: Request, digest: str) -> str:
    return f"/releases/{site_of(request).ledger.get(DriftAlarm, digest).release}/monitoring"


def _of_proposal(request: Request, digest: str) -> str:
    return f"/releases/{site_of(request).ledger.get(WatchProposal, digest).release}/monitoring"


def _day_ends(fields: dict[str, str]) -> Mapping[str, Any]:
    """A mute until the end of a day."""
    return fields | {"until": f"{fields.get('until', '')}T23:59:59Z"}


form_route(
    router, "/drift-alarms/{digest}/mutes", "approver", monitoring.create_alarm_mute, monitoring.MuteRequest, _of_alarm,
    _day_ends,
)  # fmt: skip
form_route(
    router, "/watch-proposals/{digest}/confirmations", "approver", monitoring.create_watch_confirmation, None,
    _of_proposal,
)  # fmt: skip
