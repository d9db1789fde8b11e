"""The log as a page: how far it has grown, what happened last, and where to check it.

Background work as a page: what waits, what runs and how far it is, what ended and how.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from auditsvc.records import ENDS, Candidate, Decision, Job, JobEvent
from auditsvc.records.log_event import decode_event
from auditsvc.web.authentication import site_of
from auditsvc.web.rendering import page
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState
from auditsvc.web.v1.log import current_checkpoint

router = APIRouter(route_class=RoleRoute, include_in_schema=False)

SHOWN = 30


@dataclass(frozen=True)
class Line:
    """A job and the last thing that it told."""

    job: Job
    last: JobEvent | None

    @property
    def share(self) -> int | None:
        """Per cent of the step that is done, where the step can be counted."""
        if self.last is None or self.last.done is None or not self.last.total or self.job.state in ENDS:
            return None
        return min(100, round(100 * self.last.done / self.last.total))


@router.get("/jobs")
def jobs(request: Request) -> HTMLResponse:
    """The newest jobs; while one of them goes on, the page looks again every two seconds."""
    site = site_of(request)
    lines = []
    for job in site.jobs.page(limit=SHOWN):
        events = site.jobs.events(job.id) if job.state not in ENDS else ()
        lines.append(Line(job, events[-1] if events else None))
    return page(request, "jobs.html", "/jobs", lines=lines, goes_on=any(line.job.state not in ENDS for line in lines))


SHOWN_EVENTS = 60

PLACES = {Candidate.event: "/candidates", Decision.event: "/decisions"}
"""Records that have a page; the others are read from the API."""


@router.get("/log")
def logbook(request: Request, before: int | None = None) -> HTMLResponse:
    """The newest entries, or those before one of them."""
    site: ProjectState = site_of(request)
    size = site.ledger.size()
    end = size if before is None else max(0, min(before, size))
    start = max(0, end - SHOWN_EVENTS)
    entries = [(index, _told(site.ledger.leaf(index))) for index in range(end - 1, start - 1, -1)]
    checkpoint = current_checkpoint(site)
    return page(request, "log.html", "/log", entries=entries, start=start, size=size, checkpoint=checkpoint)


def _told(leaf: bytes) -> dict[str, Any]:
    """An event's fields; a leaf that is no event is a signature that was logged."""
    event = decode_event(leaf)
    if event is None:
        return {"type": "signature", "actor": "", "at": "", "object": "", "href": ""}
    about = str(event.get("object", ""))
    place = PLACES.get(event["type"])
    href = (f"{place}/{about}" if place else f"/v1/provenance/{about}") if about.startswith("sha256:") else ""
    return {"type": event["type"], "actor": event["actor"], "at": event["at"], "object": about, "href": href}
