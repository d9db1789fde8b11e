"""Background work: start an audit or an import on a page, follow it by step with the time left, cancel or retry it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Path as InPath
from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.errors import InvalidInput
from auditsvc.records import (
    ENDS,
    AdmitRequest,
    AuditRequest,
    Candidate,
    Evidence,
    FileEntry,
    Job,
    JobEvent,
    JobId,
    Parent,
    Policy,
    Submission,
)
from auditsvc.services.statements import parse_draft
from auditsvc.services.terms import binding_terms
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.pages.policies import shipped_policies
from auditsvc.web.rendering import Form, page
from auditsvc.web.state import ProjectState
from auditsvc.web.v1 import jobs as api
from auditsvc.web.v1.uploads import MAX_FILES, store_form_file

if TYPE_CHECKING:
    from auditsvc.services.power import SlicePower

router = Router(include_in_schema=False)

AJob = Annotated[JobId, InPath()]
SHOWN = 30
LISTED = 100
"""Versions, policies and data sets in the lists of the form."""


@dataclass(frozen=True)
class Step:
    """One step of a job, from its first event to its newest."""

    first: JobEvent
    last: JobEvent

    @property
    def title(self) -> str:
        """What it does: the check that measures, or the part of the job."""
        return self.last.step.replace("_", " ")

    @property
    def ended(self) -> bool:
        """Whether every unit is done."""
        return self.last.total is not None and self.last.done == self.last.total

    @property
    def percent(self) -> int | None:
        """Progress in percent, where the step is countable and not ended."""
        if self.ended or self.last.done is None or not self.last.total:
            return None
        return min(99, round(100 * self.last.done / self.last.total))

    @property
    def took(self) -> str:
        """The time from its first event to its newest."""
        return duration(self.last.at - self.first.at)

    @property
    def left(self) -> str:
        """The time left at the rate so far; empty where nothing is counted yet."""
        done, total = self.last.done, self.last.total
        if self.ended or not done or not total:
            return ""
        return f"about {duration((self.last.at - self.first.at) * (total / done - 1))} left"


def duration(time: datetime.timedelta) -> str:
    """Seconds, minutes or hours, rounded."""
    seconds = round(time.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def steps_of(events: tuple[JobEvent, ...]) -> tuple[list[Step], list[str]]:
    """The steps in the order in which they began, and the notes."""
    steps: dict[str, Step] = {}
    for event in events:
        if event.step != "note":
            first = steps[event.step].first if event.step in steps else event
            steps[event.step] = Step(first if event.done or not event.total else event, event)
    return list(steps.values()), [event.message for event in events if event.step == "note"]


@router.get("/jobs", needs="reader")
def jobs_page(request: Request) -> HTMLResponse:
    """The newest jobs; while one is in progress, the page reloads the list every two seconds."""
    site = site_of(request)
    lines = []
    for job in site.jobs.page(limit=SHOWN):
        steps = steps_of(site.jobs.events(job.id))[0] if job.state not in ENDS else []
        lines.append((job, steps[-1] if steps else None))
    return page(request, "jobs.html", "/jobs", lines=lines, in_progress=any(job.state not in ENDS for job, _ in lines))


@router.get("/jobs/audit", needs="reader")
def audit_form(request: Request, candidate: str = "", policy: str = "", data: str = "") -> HTMLResponse:
    """The forms that start an audit, or an import with an audit; and what the chosen policy needs."""
    site = site_of(request)
    versions = [item for _, item in site.ledger.page(Submission, limit=LISTED)]
    chosen = next((one for one in versions if one.candidate == candidate), versions[0] if versions else None)
    terms = binding_terms(site.ledger, chosen.model) if chosen else None
    policies = [(one.digest, f"{one.policy} {one.version}") for _, one in site.ledger.page(Policy, limit=LISTED)]
    policy = policy or (terms.policy if terms else policies[0][0] if policies else "standard")
    parents = {one.digest: one for _, one in site.ledger.page(Parent, limit=LISTED)}
    facts: dict[str, Any] = {"versions": versions, "policies": policies, "shipped": list(shipped_policies())}
    facts |= {"chosen": chosen, "policy": policy, "data": data, "terms": terms, "parents": list(parents.values())}
    plan = _plan(site, chosen, policy, data) if chosen and candidate else None
    return page(request, "audit.html", "/jobs", data_sets=_data_sets(site), plan=plan, **facts)


def _data_sets(site: ProjectState) -> list[str]:
    """The entries of the data folder; those that a job used first."""
    used = [getattr(job.request, "data", None) for job in site.jobs.page(kind="audit", limit=LISTED)]
    folder = site.data_dir
    there = sorted(one.name for one in folder.iterdir() if not one.name.startswith(".")) if folder.is_dir() else []
    return list(dict.fromkeys([name for name in used if name] + there[:LISTED]))


@dataclass(frozen=True)
class Plan:
    """What a policy needs, on slices of the sizes that an earlier audit of the model had."""

    dataset: str
    images: int
    lines: tuple[SlicePower, ...]

    @property
    def blocking(self) -> list[SlicePower]:
        """The lines that no candidate can meet on so few images."""
        return [line for line in self.lines if line.cannot_approve]

    @property
    def doubtful(self) -> list[SlicePower]:
        """The lines that a good candidate may miss."""
        return [line for line in self.lines if line.state in ("doubtful", "too few") and not line.cannot_approve]


def _plan(site: ProjectState, chosen: Submission, policy: str, data: str) -> Plan | str:
    """The plan, or why there is none: sizes of slices are known of data that an audit of the model used."""
    from auditsvc.services.policies import resolve_remote_policy
    from auditsvc.services.power import plan

    ledger = site.ledger
    found = resolve_remote_policy(policy, ledger)
    parent = ledger.get(Candidate, chosen.candidate).parent
    siblings = [item.digest for _, item in ledger.page(Candidate, subject=parent, limit=10)]
    runs = [run for one in (chosen.candidate, *siblings) for run in ledger.find(Evidence, one)[::-1]]
    runs.sort(key=lambda run: run.dataset.name != data)
    known = next((run for run in runs if run.readings), None)
    if known is None:
        return f"No audit of {chosen.model} gives the sizes of slices yet: auditsvc policy plan {policy} --data FOLDER"
    sizes: dict[str, int] = {}
    for run in runs:
        if run.key.dataset == known.key.dataset:
            for one in run.readings:
                if one.outcome.images:
                    sizes[one.slice] = max(sizes.get(one.slice, 0), one.outcome.images)
    return Plan(known.dataset.name, known.dataset.images, plan(found, sizes))


@router.post("/jobs/audit", needs="auditor")
def start_audit(request: Request, given: Form) -> Response:
    """Start the audit of a submitted version under the caller's name."""
    fields = {name: given.get(name, "") for name in ("candidate", "policy", "data")}
    return _started(api.create_audit_job(request, parse_draft(AuditRequest, fields)))


@router.post("/jobs/import", needs="submitter")
async def start_import(request: Request) -> Response:
    """Import a candidate from uploaded files or a registry version, and audit it where a policy is chosen."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidInput("this takes a multipart form with files; programs use the API under /v1")
    async with request.form(max_files=MAX_FILES, max_fields=20) as form:
        fields: dict[str, Any] = {name: value for name, value in form.items() if isinstance(value, str) and value}
        files = [one for one in form.getlist("files") if isinstance(one, UploadFile) and one.filename]
        fields["files"] = await run_in_threadpool(_stored, request, files)
        if "policy" in fields:
            fields["data"] = fields.get("probe", "")
        return _started(await run_in_threadpool(api.create_admit_job, request, parse_draft(AdmitRequest, fields)))


def _stored(request: Request, files: list[UploadFile]) -> list[FileEntry]:
    return [store_form_file(site_of(request), one, request.state.caller.name, "model") for one in files]


def _started(answer: Response) -> Response:
    return RedirectResponse(f"/jobs/{Path(answer.headers['location']).name}", 303)


@router.get("/jobs/{id}", needs="reader")
def job_page(request: Request, id: AJob) -> HTMLResponse:
    """One job: its steps with progress and time left, its notes, its result."""
    site = site_of(request)
    job = site.jobs.get(id)
    steps, notes = steps_of(site.jobs.events(id))
    return page(request, "job.html", "/jobs", job=job, steps=steps, notes=notes, going=job.state not in ENDS,
                fields=_asked(job))  # fmt: skip


def _asked(job: Job) -> list[tuple[str, str, str]]:
    """What was asked for: name, value, and its page."""
    pages = {"candidate": "/candidates", "policy": "/policies", "decision": "/decisions"}
    asked = job.request.model_dump(mode="json", exclude_defaults=True, exclude={"kind"})
    found = []
    for name, value in asked.items():
        if isinstance(value, str | int | float):
            of = pages.get(name) if str(value).startswith("sha256:") else None
            found.append((name.replace("_", " ").capitalize(), str(value), f"{of}/{value}" if of else ""))
    return found


@router.post("/jobs/{id}/cancel", needs="auditor")
def cancel(request: Request, id: AJob) -> Response:
    """Cancel a queued or running job."""
    api.cancel_job(request, id)
    return RedirectResponse(f"/jobs/{id}", 303)


@router.post("/jobs/{id}/retry", needs="auditor")
def retry(request: Request, id: AJob) -> Response:
    """Queue a failed or cancelled job again."""
    api.retry_job(request, id)
    return RedirectResponse(f"/jobs/{id}", 303)
