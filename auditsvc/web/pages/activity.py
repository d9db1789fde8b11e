"""The pages of background jobs, of the transparency log, and the page that verifies a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastapi import Request
from starlette.responses import HTMLResponse

from auditsvc.records import ENDS, Candidate, Decision, Job, JobEvent
from auditsvc.records.log_event import decode_event
from auditsvc.services.signing_context import checkpoint_store_of
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.rendering import page

router = Router(include_in_schema=False)

SHOWN_JOBS = 30


@dataclass(frozen=True)
class JobRow:
    """A job and its newest event."""

    job: Job
    last: JobEvent | None

    @property
    def percent(self) -> int | None:
        """Progress of the current step in percent, where the step is countable."""
        if self.last is None or self.last.done is None or not self.last.total or self.job.state in ENDS:
            return None
        return min(100, round(100 * self.last.done / self.last.total))


@router.get("/jobs", needs="reader")
def jobs_page(request: Request) -> HTMLResponse:
    """The newest jobs; while one is in progress, the page reloads the list every two seconds."""
    site = site_of(request)
    lines = []
    for job in site.jobs.page(limit=SHOWN_JOBS):
        events = site.jobs.events(job.id) if job.state not in ENDS else ()
        lines.append(JobRow(job, events[-1] if events else None))
    return page(
        request, "jobs.html", "/jobs", lines=lines, in_progress=any(line.job.state not in ENDS for line in lines)
    )


SHOWN_EVENTS = 60

OBJECT_PAGES = {Candidate.event: "/candidates", Decision.event: "/decisions"}
"""Kinds of record that have a page; the others link to their provenance in the API."""


@router.get("/log", needs="reader")
def log_page(request: Request, before: int | None = None) -> HTMLResponse:
    """The newest entries, or those before an index."""
    site = site_of(request)
    size = site.ledger.size()
    end = size if before is None else max(0, min(before, size))
    start = max(0, end - SHOWN_EVENTS)
    entries = [(index, _log_event(site.ledger.leaf(index))) for index in range(end - 1, start - 1, -1)]
    checkpoint = checkpoint_store_of(site.ctx).current()
    return page(request, "log.html", "/log", entries=entries, start=start, size=size, checkpoint=checkpoint)


def _log_event(leaf: bytes) -> dict[str, Any]:
    """The fields of an event; a leaf that is not an event is a logged signature."""
    event = decode_event(leaf)
    if event is None:
        return {"type": "signature", "actor": "", "at": "", "object": "", "href": ""}
    about = str(event.get("object", ""))
    path = OBJECT_PAGES.get(event["type"])
    href = (f"{path}/{about}" if path else f"/v1/provenance/{about}") if about.startswith("sha256:") else ""
    return {"type": event["type"], "actor": event["actor"], "at": event["at"], "object": about, "href": href}


@router.get("/verify", needs="reader")
def verify_page(request: Request) -> HTMLResponse:
    """A drop zone for a file; its script sends the file to ``POST /v1/verify`` and shows the result."""
    return page(request, "verify.html", "/verify")
