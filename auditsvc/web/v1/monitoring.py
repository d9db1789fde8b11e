"""Watching releases in use: settings by two people, observations and their labels, runs, alarms and mutes.

The rules are in ``auditsvc.services.watching``, ``observations`` and ``monitoring``; runs are jobs.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from auditsvc.records import (
    AlarmMute,
    DataName,
    Digest,
    DriftAlarm,
    Moment,
    Monitoring,
    Release,
    Text,
    WatchProposal,
    WatchReference,
    WatchSettings,
)
from auditsvc.services.incidents import incident_draft
from auditsvc.services.observations import Intake, add_labels, add_observations, parse_labels, parse_observations
from auditsvc.services.watching import (
    WatchDraft,
    confirm_watch,
    mute_alarm,
    open_drift,
    pending_watch,
    propose_watch,
    watch_settings,
)
from auditsvc.web.auth.authentication import Router, require_independent, site_of
from auditsvc.web.record_routes import ADigest, created, record_router

router = Router(tags=["monitoring"])

_RELEASE = "A model's name, or a release."
record_router(router, Monitoring, "monitoring_runs", about=_RELEASE)
record_router(router, WatchSettings, "watch_settings", singular="watch_setting", about=_RELEASE)
record_router(router, WatchProposal, "watch_proposals", about=_RELEASE)
record_router(router, WatchReference, "watch_references", about="A release.")
record_router(router, DriftAlarm, "drift_alarms", about="A model's name, a release or a candidate.")
record_router(router, AlarmMute, "alarm_mutes", about="An alarm or a release.")

_JSON: dict[str, dict[str, Any]] = {"application/json": {"schema": {}}}
AReleaseOf = Annotated[Digest, Query(description="The release that answered.")]


class WatchRequest(WatchDraft):
    """How a release is to be watched: data sets and sources are folders or files below the data folder."""

    data: DataName
    source: DataName | None = None


class AlarmStatus(BaseModel):
    """An alarm that needs a review, and until when a serious incident, if it is one, must be reported."""

    digest: Digest
    alarm: DriftAlarm
    report_due: dict[str, Moment]


class WatchStatus(BaseModel):
    """The settings that count, a proposal that waits for another person, and open alarms."""

    digest: Digest | None = None
    settings: WatchSettings | None = None
    proposal: Digest | None = None
    pending: WatchProposal | None = None
    alarms: list[AlarmStatus] = []


class MuteRequest(BaseModel):
    """Why an alarm needs no review, and until when."""

    reason: Text
    until: Moment


class LabelCount(BaseModel):
    """How many labels are new."""

    labelled: int = Field(ge=0)


@router.get("/v1/releases/{digest}/watch", needs="reader", summary="Get how a release is watched")
def get_watch(request: Request, digest: ADigest) -> WatchStatus:
    """While an alarm is open the release needs a review; it stays the gate's answer until people act."""
    site = site_of(request)
    site.ledger.get(Release, digest)
    settings, pending = watch_settings(site.ledger, digest), pending_watch(site.ledger, digest)
    alarms = open_drift(site.ledger, digest, site.clock.now())
    return WatchStatus(
        digest=settings.digest if settings else None,
        settings=settings,
        proposal=pending.digest if pending else None,
        pending=pending,
        alarms=[AlarmStatus(digest=one.digest, alarm=one, report_due=incident_draft(one)["due"]) for one in alarms],
    )


@router.post("/v1/releases/{digest}/watch", needs="approver", creates=WatchProposal, summary="Propose to watch")
def create_watch_proposal(request: Request, digest: ADigest, draft: WatchRequest) -> Response:
    """Nothing changes until another approver confirms it."""
    site = site_of(request)
    made = propose_watch(site.ctx, site.ledger.get(Release, digest), draft, request.state.caller.name)
    return created(made)


@router.post(
    "/v1/watch-proposals/{digest}/confirmations",
    needs="approver",
    creates=WatchSettings,
    summary="Confirm how a release is watched",
)
def create_watch_confirmation(request: Request, digest: ADigest) -> Response:
    """From then on it counts. The person who proposed it can't confirm it."""
    site = site_of(request)
    proposal = site.ledger.get(WatchProposal, digest)
    person = require_independent(request, (proposal.proposed_by,))
    return created(confirm_watch(site.ctx, proposal, person))


@router.post("/v1/drift-alarms/{digest}/mutes", needs="approver", creates=AlarmMute, summary="Mute an alarm")
def create_alarm_mute(request: Request, digest: ADigest, mute: MuteRequest) -> Response:
    """Until then the release needs no review because of it; at most 92 days."""
    site = site_of(request)
    alarm = site.ledger.get(DriftAlarm, digest)
    return created(mute_alarm(site.ctx, alarm, request.state.caller.name, mute.reason, mute.until))


@router.post("/v1/observations", needs="submitter", takes=_JSON, summary="Send observations")
async def create_observations(request: Request, release: AReleaseOf) -> Intake:
    """A JSON list of observations of a watched release, all of them kept or none.

    Each is kept once, by its `id`, or by its content where it has none, so a batch can be sent again.
    """
    site, body = site_of(request), await request.body()

    def keep() -> Intake:
        return add_observations(site.ctx, site.ledger.get(Release, release), parse_observations(body))

    return await run_in_threadpool(keep)


@router.post("/v1/observation-labels", needs="submitter", takes=_JSON, summary="Send labels of observations")
async def create_observation_labels(request: Request, release: AReleaseOf) -> LabelCount:
    """A JSON object with the label of each observation, by its `id`. The first label counts."""
    site, body = site_of(request), await request.body()

    def keep() -> LabelCount:
        return LabelCount(labelled=add_labels(site.ctx, site.ledger.get(Release, release), parse_labels(body)))

    return await run_in_threadpool(keep)
