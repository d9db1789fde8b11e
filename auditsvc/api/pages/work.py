"""Background work as a page: what waits, what runs and how far it is, what ended and how."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from auditsvc.api.identity import site_of
from auditsvc.api.rendering import page
from auditsvc.api.roles import RoleRoute
from auditsvc.records import ENDS, Job, JobEvent

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
