"""How releases are watched: settings by two people, what is due, alarms that are open, and mutes.

One person proposes settings, another confirms them; the ledger refuses settings of one person.  The newest confirmed
ones count, until the release is revoked.  An alarm stays open until it is muted, newer settings are confirmed, or the
release is revoked; while it is open the release needs a review, and the gate's answer says so.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.ports import Context, Jobs, Ledger, View
from auditsvc.records import (
    CHANNELS,
    AlarmMute,
    Channel,
    Decision,
    Digest,
    DriftAlarm,
    Job,
    Moment,
    MonitorRequest,
    Name,
    Release,
    Revocation,
    Text,
    WatchProposal,
    WatchSettings,
    faults_of,
    person_key,
)
from auditsvc.services.terms import audited_data

MOST_MUTED = datetime.timedelta(days=92)
"""How long an alarm can be muted: a person takes responsibility again at least once a quarter."""


class WatchDraft(BaseModel):
    """How a release is to be watched; see ``WatchSettings``."""

    data: Text
    dataset: Digest | None = None
    """Of the data sets that the release was judged on, the one at ``data``; None where there is one."""
    source: Annotated[str, Field(max_length=500)] | None = None
    every_minutes: int = 60
    alpha: float = 0.05
    channels: tuple[Channel, ...] = CHANNELS
    slices: tuple[Name, ...] = ()
    block_minutes: float | None = None
    period_minutes: float | None = None
    parent_share: float = 0.1
    retention_days: int = 90
    contacts: tuple[Text, ...] = ()
    reason: Text


def watch_settings(view: View, release: Digest) -> WatchSettings | None:
    """The settings that count; None where the release is not watched, or was revoked."""
    known = view.find(WatchSettings, release)
    return known[-1] if known and not view.find(Revocation, release) else None


def pending_watch(view: View, release: Digest) -> WatchProposal | None:
    """The newest proposal, if neither it nor newer settings were confirmed."""
    proposals, known = view.find(WatchProposal, release), view.find(WatchSettings, release)
    if not proposals or (known and (known[-1].proposal == proposals[-1].digest or known[-1].at > proposals[-1].at)):
        return None
    return proposals[-1]


def propose_watch(ctx: Context, release: Release, draft: WatchDraft, person: str) -> WatchProposal:
    """Propose how a release is watched; another person must confirm it.

    Raises:
        InvalidInput: a data set that the release was not judged on, or settings that can't be used.
        Conflict: the release was revoked.
    """
    if ctx.ledger.find(Revocation, release.digest):
        raise Conflict(f"{release.model} version {release.version} was revoked; there is nothing to watch")
    judged = {one.digest: one.name for one in audited_data(ctx.ledger, ctx.ledger.get(Decision, release.decision))}
    chosen = draft.dataset or (next(iter(judged)) if len(judged) == 1 else None)
    if chosen not in judged:
        names = ", ".join(f"{name} ({digest})" for digest, name in judged.items())
        raise InvalidInput(f"name one of the data sets that the release was judged on: {names}")
    fields: dict[str, Any] = draft.model_dump() | {
        "release": release.digest, "model": release.model, "version": release.version, "dataset": chosen,
        "proposed_by": person, "at": ctx.clock.now(),
    }  # fmt: skip
    try:
        made = WatchProposal.model_validate(fields)
    except ValidationError as error:
        raise InvalidInput("these settings can't be used", faults_of(error)) from error
    ctx.ledger.append(made, actor=person)
    return made


def confirm_watch(ctx: Context, proposal: WatchProposal, person: str) -> WatchSettings:
    """Confirm proposed settings: from now on they count.  Confirming again returns the same settings.

    Raises:
        Conflict: the person proposed them, or a newer proposal or newer settings replaced them.
    """
    known = ctx.ledger.find(WatchSettings, proposal.release)
    if known and known[-1].proposal == proposal.digest:
        return known[-1]
    if pending_watch(ctx.ledger, proposal.release) != proposal:
        raise Conflict("a newer proposal replaced these settings; confirm the newest one")
    if person_key(proposal.proposed_by) == person_key(person):
        raise Conflict(f"{person} proposed these settings; another person must confirm them")
    fields = proposal.model_dump() | {"proposal": proposal.digest, "confirmed_by": person, "at": ctx.clock.now()}
    made = WatchSettings.model_validate(fields)
    ctx.ledger.append(made, actor=person)
    return made


def open_drift(view: View, release: Digest, at: Moment | None = None) -> tuple[DriftAlarm, ...]:
    """The alarms that need a review, oldest first: of the settings that count, and not muted at the time ``at``."""
    settings = watch_settings(view, release)
    if settings is None:
        return ()
    muted = {one.alarm for one in view.find(AlarmMute, release) if at is None or one.until > at}
    alarms = view.find(DriftAlarm, release)
    return tuple(one for one in alarms if one.settings == settings.digest and one.digest not in muted)


def mute_alarm(ctx: Context, alarm: DriftAlarm, person: str, reason: str, until: Moment) -> AlarmMute:
    """Mute an alarm until a time, in a person's name.

    Raises:
        InvalidInput: no reason, or an end that is over or too far ahead.
    """
    now = ctx.clock.now()
    if not reason.strip():
        raise InvalidInput("a mute needs a reason; the ledger records it")
    if not now < until <= now + MOST_MUTED:
        raise InvalidInput(f"an alarm is muted for {MOST_MUTED.days} days at most, not until {until.isoformat()}")
    made = AlarmMute(
        alarm=alarm.digest, release=alarm.release, reason=reason.strip(), until=until, person=person, at=now
    )
    ctx.ledger.append(made, actor=person)
    return made


def slot_of(settings: WatchSettings, now: Moment) -> datetime.datetime:
    """The beginning of the interval that this moment is in."""
    length = settings.every_minutes * 60
    return datetime.datetime.fromtimestamp(now.timestamp() // length * length, datetime.UTC)


def queue_due(ledger: Ledger, jobs: Jobs, now: Moment) -> tuple[Job, ...]:
    """Queue a run for every watched release whose interval has none yet.

    The job's id is that of its release and interval, so any number of services queue it once.  After a pause one run
    counts everything that arrived.
    """
    releases = {one.release for one in ledger.all(WatchSettings)}
    found = []
    for settings in filter(None, (watch_settings(ledger, release) for release in sorted(releases))):
        slot = slot_of(settings, now)
        if settings.at <= now:
            request = MonitorRequest(release=settings.release)
            found.append(jobs.submit(request, "auditsvc", once=(slot, settings.digest)))
    return tuple(found)


def watched_release(view: View, model: str, version: str | None) -> Release:
    """A release by its name.

    Raises:
        NotFound: it was never released, or the model has no release that is not revoked.
    """
    if version:
        known = view.find(Release, f"{model}/{version}")
    else:
        known = tuple(one for one in view.find(Release, model) if not view.find(Revocation, one.digest))
    if not known:
        named = f"{model} version {version}" if version else f"a version of {model} that is not revoked"
        raise NotFound(f"{named} was never released")
    return known[-1]
