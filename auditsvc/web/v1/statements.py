"""Statements by named people, under the name of the token's holder; the rules are in ``auditsvc.services``.

Documents, questionnaire answers, change plans and change verdicts are each reviewed by a second person.  Serious
incidents (Art. 73 of the EU AI Act) and incident watches form a register of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document, Incident, Watch
from auditsvc.compliance.assessment.framework import load_questionnaire
from auditsvc.errors import NotFound
from auditsvc.records import Name
from auditsvc.resources import resource_dir
from auditsvc.services import incidents, statements
from auditsvc.services.incidents import IncidentDraft, IncidentReport, WatchDraft
from auditsvc.services.statements import REVIEWERS, AnswersDraft, ChangePlanDraft, ChangeVerdictDraft, DocumentDraft
from auditsvc.web.auth.authentication import BINARY, Router, site_of
from auditsvc.web.record_routes import PATHS, ADigest, created, record_router
from auditsvc.web.v1.uploads import upload_folder

router = Router(tags=["statements"])

S = TypeVar("S", Document, Answers, ChangePlan, ChangeVerdict)


REVIEWS: dict[type[statements.Statement], Callable[[Request, str], Response]] = {}
"""The route that reviews each kind of statement."""


def _readable_and_reviewable(kind: type[S], plural: str, singular: str, about: str) -> None:
    """Add the routes that read statements of this kind, and the one that reviews them."""
    record_router(router, kind, plural, singular=singular, about=about)

    @router.post(
        f"{PATHS[kind]}/{{digest}}/reviews",
        needs=REVIEWERS[kind],
        creates=kind,
        name=f"review_{singular}",
        summary=f"Review {'a ' if plural != singular else ''}{singular.replace('_', ' ')}",
    )
    def review(request: Request, digest: ADigest) -> Response:
        """You have read it and agree with it. Its author can't review it."""
        return created(statements.review(site_of(request).ctx, kind, digest, request.state.caller.name))

    REVIEWS[kind] = review


_readable_and_reviewable(Document, "documents", "document", "A model's name, or a candidate's digest.")
_readable_and_reviewable(Answers, "answers", "answers", "A model's name.")
_readable_and_reviewable(ChangePlan, "change_plans", "change_plan", "A model's name.")
_readable_and_reviewable(ChangeVerdict, "change_verdicts", "change_verdict", "A candidate's digest.")


class QuestionnaireItem(BaseModel):
    """One question of the questionnaire."""

    question: str
    row: str
    text: str
    help: str = ""


class QuestionnaireView(BaseModel):
    """The current questionnaire."""

    questionnaire: Name
    version: int
    questions: list[QuestionnaireItem]


@router.get("/v1/questionnaire", needs="reader", summary="Get the questionnaire")
def get_questionnaire(request: Request) -> QuestionnaireView:  # noqa: ARG001 - a route with a role takes its request
    """Each question is answered `yes`, `no` or `unknown`; a question without an answer is `unknown`, never `no`."""
    found = load_questionnaire(resource_dir("policies"))
    fields = set(QuestionnaireItem.model_fields)
    items = [QuestionnaireItem.model_validate(one.model_dump(include=fields)) for one in found.questions]
    return QuestionnaireView(questionnaire=found.questionnaire, version=found.version, questions=items)


@router.post("/v1/documents", needs="submitter", creates=Document, summary="Add a document or statement")
def create_document(request: Request, draft: DocumentDraft) -> Response:
    """The token's holder becomes its owner. It has no reviewer yet, and it is valid until it expires."""
    return created(statements.add_document(site_of(request).ctx, draft, request.state.caller.name))


@router.get(
    "/v1/documents/{digest}/file",
    needs="reader",
    sends={"application/octet-stream": BINARY},
    summary="Download the file of a document",
)
def download_document(request: Request, digest: ADigest) -> Response:
    """The file's bytes, as an attachment; the reviewer reads it first."""
    site = site_of(request)
    file = site.ledger.get(Document, digest).file
    if file is None:
        raise NotFound("this document is a statement without a file")
    with ExitStack() as stack:
        folder = stack.enter_context(upload_folder(site)) / "document"
        site.ctx.blobs.checkout([file], folder)
        cleanup = BackgroundTask(stack.pop_all().close)
    name = file.name.rpartition("/")[2]
    return FileResponse(folder / file.name, 200, None, "application/octet-stream", cleanup, name)


@router.post("/v1/answers", needs="auditor", creates=Answers, summary="Answer the questionnaire")
def create_answers(request: Request, draft: AnswersDraft) -> Response:
    """Stored under your name; the newest answers count until they expire."""
    return created(statements.add_answers(site_of(request).ctx, draft, request.state.caller.name))


@router.post("/v1/change-plans", needs="submitter", creates=ChangePlan, summary="Plan changes")
def create_change_plan(request: Request, draft: ChangePlanDraft) -> Response:
    """Stored under your name, without a reviewer yet. A later change within its limits counts as planned."""
    return created(statements.add_change_plan(site_of(request).ctx, draft, request.state.caller.name))


@router.post("/v1/change-verdicts", needs="auditor", creates=ChangeVerdict, summary="Classify a change")
def create_change_verdict(request: Request, draft: ChangeVerdictDraft) -> Response:
    """Planned, not substantial, or substantial: a person decides this, not a test."""
    return created(statements.add_change_verdict(site_of(request).ctx, draft, request.state.caller.name))


incident_router = Router(tags=["incidents"])

record_router(incident_router, Incident, "incidents", about="A model's name.")
record_router(incident_router, Watch, "incident_watches", singular="incident_watch", about="A model's name.")


@incident_router.post("/v1/incidents", needs="auditor", creates=Incident, summary="Register an incident")
def create_incident(request: Request, draft: IncidentDraft) -> Response:
    """The report to the authority is due within 15 days of awareness, 10 days for a death, and 2 days for critical
    infrastructure or a widespread infringement."""
    return created(incidents.add_incident(site_of(request).ctx, draft, request.state.caller.name))


@incident_router.post(
    "/v1/incidents/{digest}/reports", needs="auditor", creates=Incident, summary="Record the report to the authority"
)
def create_incident_report(request: Request, digest: ADigest, report: IncidentReport) -> Response:
    """The incident was reported; this stops its deadline."""
    return created(incidents.report_incident(site_of(request).ctx, digest, report, request.state.caller.name))


@incident_router.post("/v1/incident-watches", needs="auditor", creates=Watch, summary="Record an incident watch")
def create_incident_watch(request: Request, draft: WatchDraft) -> Response:
    """You watched on these days and know of no incident other than those registered."""
    return created(incidents.add_watch(site_of(request).ctx, draft, request.state.caller.name))
