"""The register of serious incidents: what happened, when somebody knew, when the authority was told.

The register can show that every known incident was reported in time.  That none is known shows nothing by itself: a
named person must say that they watched, and until when, and even then the row does not apply, it is not supported.

Reference: Regulation (EU) 2024/1689, Art. 73.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from auditsvc.compliance.assessment.framework import Status
from auditsvc.records import Digest, Moment, Name, Record, Text

Harm = Literal[
    "death", "health", "property or environment", "fundamental rights", "critical infrastructure", "widespread"
]

DAYS: dict[Harm, int] = {
    "death": 10,
    "health": 15,
    "property or environment": 15,
    "fundamental rights": 15,
    "critical infrastructure": 2,
    "widespread": 2,
}
"""Days from knowing of it to the authority: Art. 73(2), and for death 73(4), for infrastructure and what is widespread
73(3).  The law says "immediately", and these days at the latest."""

WATCHED = 31
"""Days after its end for which somebody's word that nothing happened still counts."""


class Incident(Record):
    """One serious incident with a model line; ``aware`` starts the clock, ``reported`` stops it."""

    kind: ClassVar[str] = "incident"

    model: Name
    candidate: Digest | None = None
    harm: Harm
    words: Text
    aware: Moment
    reported: Moment | None = None
    authority: str = ""
    reference: str = ""
    person: Name
    at: Moment

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.reported is not None and (self.reported < self.aware or not self.authority.strip()):
            raise ValueError("a report comes after somebody knew, and goes to a named authority")
        return self

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name."""
        return (self.model,)

    @property
    def due(self) -> Moment:
        """When the authority must know at the latest."""
        return self.aware + datetime.timedelta(days=DAYS[self.harm])

    @property
    def case(self) -> tuple[str, str, str]:
        """What tells one incident from another; a later record of the same case replaces this one."""
        return (self.model, self.harm, self.aware.isoformat())


class Watch(Record):
    """A named person watched for incidents from one day to another, and knows of none beside those registered."""

    kind: ClassVar[str] = "incident-watch"

    model: Name
    since: datetime.date
    until: datetime.date
    words: Text
    person: Name
    at: Moment

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.since <= self.until <= self.at.date():
            raise ValueError("a watch begins before it ends, and ends before somebody speaks of it")
        return self

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name."""
        return (self.model,)


def current(incidents: Iterable[Incident]) -> tuple[Incident, ...]:
    """The newest record of each incident, oldest incident first."""
    newest = {incident.case: incident for incident in sorted(incidents, key=lambda one: one.at)}
    return tuple(sorted(newest.values(), key=lambda one: one.aware))


def reported_in_time(incidents: Iterable[Incident], days: int, now: Moment) -> tuple[Status, str]:
    """How these incidents stand against a limit in days; the worst one tells."""
    late, open_ones, told = [], [], 0
    for one in incidents:
        due = one.aware + datetime.timedelta(days=days)
        if (one.reported or now) > due:
            late.append(f"{one.harm}, known on {one.aware.date()}, due on {due.date()}")
        elif one.reported is None:
            open_ones.append(f"{one.harm}, known on {one.aware.date()}, is due on {due.date()}")
        else:
            told += 1
    if late:
        return "contradicted", f"not reported within {days} days: {'; '.join(late)}"
    if open_ones:
        return "insufficient", f"not reported yet: {'; '.join(open_ones)}"
    return "supported", f"{told} reported within {days} days"


def unwatched(watches: Iterable[Watch], today: datetime.date) -> tuple[Status, str]:
    """How a register without incidents stands: what the newest watch says."""
    newest = max(watches, key=lambda one: (one.until, one.at), default=None)
    if newest is None:
        return "missing", "no incident is registered, and nobody says that they watched for any"
    period = f"{newest.person} watched from {newest.since} to {newest.until}"
    if (today - newest.until).days > WATCHED:
        return "stale", f"{period}, too long ago"
    return "not_applicable", f"0 incidents; {period}"
