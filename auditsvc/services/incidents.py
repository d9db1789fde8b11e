"""The register of serious incidents, and who watched for incidents.

Records never change. A report to the authority is the same incident again with the report's time, and the newest record
of a case counts.

Reference: Regulation (EU) 2024/1689, Art. 73.
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

from auditsvc.compliance.assessment.attestations import REPORTING_DAYS, Harm, Incident, Watch, period_end
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.ports import Context
from auditsvc.records import Digest, DriftAlarm, Moment, Name, Text
from auditsvc.services.statements import require_model


class IncidentDraft(BaseModel):
    """A serious incident, and when the organisation first became aware of it."""

    model: Name
    candidate: Digest | None = None
    harm: Harm
    words: Annotated[Text, Field(description="What happened.")]
    aware: Annotated[Moment, Field(description="The deadline of Art. 73 is counted from here.")]


class IncidentReport(BaseModel):
    """The authority that received the report, and when."""

    authority: Annotated[str, Field(min_length=1, max_length=300)]
    reference: Annotated[str, Field(max_length=300, description="The authority's case number.")] = ""
    reported: Moment


class WatchDraft(BaseModel):
    """The days on which the author watched for incidents."""

    model: Name
    since: datetime.date
    until: datetime.date
    words: Annotated[Text, Field(description="How: which reports, logs and people were checked.")]


def incident_draft(alarm: DriftAlarm) -> dict[str, Any]:
    """What a person who finds a serious incident in an alarm registers, and until when it must be reported.

    The harm is for people to state; for each kind the deadline is given, counted from the alarm.
    """
    due: dict[Harm, Moment] = {harm: period_end(alarm.at, days) for harm, days in REPORTING_DAYS.items()}
    words = f"Alarm of the monitor: {alarm.words}"
    return {"model": alarm.model, "candidate": alarm.candidate, "aware": alarm.at, "words": words, "due": due}


def add_incident(ctx: Context, draft: IncidentDraft, person: str) -> Incident:
    """Register a serious incident with a model.

    Raises:
        NotFound: no such model or candidate.
        InvalidInput: ``aware`` is in the future, or the candidate belongs to another model.
        Conflict: this case is registered already.
    """
    require_model(ctx.ledger, draft.model, draft.candidate)
    now = ctx.clock.now()
    if draft.aware > now:
        raise InvalidInput(f"aware: {draft.aware.isoformat()} is in the future")
    made = Incident(**draft.model_dump(), person=person, at=now)
    if any(one.case == made.case for one in ctx.ledger.find(Incident, draft.model)):
        when = draft.aware.isoformat()
        raise Conflict(f"an incident of {draft.model} ({draft.harm}), known at {when}, is registered already")
    ctx.ledger.append(made, actor=person)
    return made


def report_incident(ctx: Context, digest: Digest, report: IncidentReport, person: str) -> Incident:
    """Record that an incident was reported to the authority; this stops the deadline.

    Raises:
        NotFound: no such incident.
        InvalidInput: reported before anyone was aware, or in the future, or without an authority.
        Conflict: a report of this case is registered already.
    """
    incident, now = ctx.ledger.get(Incident, digest), ctx.clock.now()
    if any(one.case == incident.case and one.reported for one in ctx.ledger.find(Incident, incident.model)):
        raise Conflict("the report of this incident is registered already")
    if not incident.aware <= report.reported <= now or not report.authority.strip():
        raise InvalidInput("a report names the authority, and its time is after `aware` and not in the future")
    made = Incident.model_validate(incident.model_dump() | report.model_dump() | {"person": person, "at": now})
    ctx.ledger.append(made, actor=person)
    return made


def add_watch(ctx: Context, draft: WatchDraft, person: str) -> Watch:
    """Record that a person watched for incidents and knows of none other than those registered.

    Raises:
        NotFound: no such model.
        InvalidInput: the days are in the wrong order, or in the future.
    """
    require_model(ctx.ledger, draft.model)
    now = ctx.clock.now()
    if not draft.since <= draft.until <= now.date():
        raise InvalidInput("the first day must not be after the last, and the last must not be in the future")
    made = Watch(**draft.model_dump(), person=person, at=now)
    ctx.ledger.append(made, actor=person)
    return made
