"""What no machine can know, said by named people: documents, answers, change plans, and words on a change.

Each is a record under the name of the token's holder.  Whoever reviews one is another person: the review is the same
record again with the reviewer's name, and the newest counts.
"""

from __future__ import annotations

import datetime
from contextlib import ExitStack
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from auditsvc.compliance import Answers, ChangePlan, ChangeVerdict, Document, load_questionnaire
from auditsvc.compliance.assessment.attestations import Answer, Claim
from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.records import Candidate, Digest, FileEntry, Moment, Name, Parent, Record, Text, faults_of
from auditsvc.resources import resource_dir
from auditsvc.web.authentication import site_of
from auditsvc.web.record_routes import ADigest, get_record, record_router
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.v1.uploads import on_its_way

router = APIRouter(route_class=RoleRoute, tags=["statements"])

record_router(router, Document, "/v1/documents", many="Documents", about="of", means="A model's name, or a candidate.")
record_router(router, Answers, "/v1/answers", many="Answers to the questionnaire", about="of", means="A model's name.")
record_router(router, ChangePlan, "/v1/change-plans", many="Change plans", about="of", means="A model's name.")
record_router(router, ChangeVerdict, "/v1/change-verdicts", many="Words on changes", about="of", means="A candidate.")

Reviewable = TypeVar("Reviewable", Document, Answers, ChangePlan, ChangeVerdict)
Statement = TypeVar("Statement", Document, Answers, ChangePlan, ChangeVerdict)
Share = Annotated[float, Field(ge=0, le=1)]


class Documenting(BaseModel):
    """A document or statement about a model, or about one candidate of it."""

    model: Name
    document: Annotated[str, Field(pattern=r"^(doc|data|gov)\.[a-z_]+$", examples=["doc.instructions"])]
    title: Text
    file: Annotated[FileEntry | None, Field(description="Of `POST /v1/uploads`.")] = None
    statement: Annotated[str, Field(max_length=20_000)] = ""
    candidate: Digest | None = None
    claims: Annotated[tuple[Claim, ...], Field(max_length=100)] = ()
    expires: datetime.date


class Answering(BaseModel):
    """Answers to the questions of `GET /v1/questionnaire`; what is left out is `unknown`."""

    model: Name
    answers: dict[Annotated[str, Field(max_length=100)], Answer]
    reasons: dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=4000)]] = {}
    expires: datetime.date


class Planning(BaseModel):
    """Which pruning is foreseen before the first release, and within which limits."""

    model: Name
    methods: Annotated[tuple[Name, ...], Field(min_length=1, max_length=50)]
    max_targets: dict[str, float] = {}
    max_loss: Share
    max_loss_of_a_group: Share
    words: Text
    expires: datetime.date


class Judging(BaseModel):
    """A word on one change, and why."""

    candidate: Digest
    verdict: Literal["planned", "not substantial", "substantial"]
    reason: Text


class Asked(BaseModel):
    """One question of the questionnaire."""

    question: str
    row: str
    text: str
    help: str = ""


class Questions(BaseModel):
    """The questionnaire as it is now."""

    questionnaire: Name
    version: int
    questions: list[Asked]


@router.get("/v1/questionnaire", summary="Questions that a person must answer")
def questions(request: Request) -> Questions:  # noqa: ARG001 - every route of a role takes its request
    """Yes, no or unknown; a question without an answer is unknown, never no."""
    found = load_questionnaire(resource_dir("policies"))
    asked = [
        Asked.model_validate(one.model_dump(include={"question", "row", "text", "help"})) for one in found.questions
    ]
    return Questions(questionnaire=found.questionnaire, version=found.version, questions=asked)


Said = Document | Answers | ChangePlan | ChangeVerdict


def _kept_record(request: Request, record: Said, where: str) -> Response:
    site, person = site_of(request), request.state.caller.name
    site.ledger.append(record, actor=person)
    return get_record(request, record, 201, where)


def _now(request: Request) -> Moment:
    return site_of(request).clock.now()


def _must_know(request: Request, model: str) -> None:
    if not site_of(request).ledger.find(Parent, model):
        raise NotFound(f"no model {model} here; register its parent first")


@router.post("/v1/documents", status_code=201, response_model=Document, summary="Add a document or statement")
def document(request: Request, given: Documenting) -> Response:
    """Under your name as its owner, without a reviewer yet; it is good until it expires."""
    _must_know(request, given.model)
    site = site_of(request)
    if given.candidate is not None and site.ledger.get(Candidate, given.candidate).model != given.model:
        raise InvalidInput(f"the candidate {given.candidate} is not one of {given.model}")
    if given.file is not None and not site.ctx.blobs.has(given.file.digest):
        raise NotFound("that file was never sent here; send it to /v1/uploads first")
    made = _valid(Document, given.model_dump(), owner=request.state.caller.name, at=_now(request))
    return _kept_record(request, made, "/v1/documents")


@router.get(
    "/v1/documents/{digest}/file",
    response_class=FileResponse,
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
    summary="The file of a document",
)
def document_file(request: Request, digest: ADigest) -> Response:
    """The bytes that the document's digest speaks of, to keep and not to show: whoever reviews it reads it first."""
    site = site_of(request)
    file = site.ledger.get(Document, digest).file
    if file is None:
        raise NotFound("this document is a statement without a file")
    with ExitStack() as stack:
        folder = stack.enter_context(on_its_way(site)) / "document"
        site.ctx.blobs.checkout([file], folder)
        gone_later = BackgroundTask(stack.pop_all().close)
    name = file.name.rpartition("/")[2]
    return FileResponse(folder / file.name, 200, None, "application/octet-stream", gone_later, name)


@router.post("/v1/answers", status_code=201, response_model=Answers, summary="Answer the questionnaire")
def answer(request: Request, given: Answering) -> Response:
    """Under your name; the newest answers count until they expire."""
    _must_know(request, given.model)
    found = load_questionnaire(resource_dir("policies"))
    known = {one.question for one in found.questions}
    unknown = sorted({*given.answers, *given.reasons} - known)
    if unknown:
        raise InvalidInput("the questionnaire asks no such thing", [f"no question {name}" for name in unknown])
    now = _now(request)
    if given.expires <= now.date():
        raise InvalidInput("answers must be good for at least a day")
    about = {"questionnaire": found.questionnaire, "version": found.version, "person": request.state.caller.name}
    return _kept_record(request, _valid(Answers, given.model_dump(), **about, at=now), "/v1/answers")


@router.post("/v1/change-plans", status_code=201, response_model=ChangePlan, summary="Plan changes")
def plan(request: Request, given: Planning) -> Response:
    """Under your name, without a reviewer yet; a change inside a plan that came first is foreseen."""
    _must_know(request, given.model)
    made = _valid(ChangePlan, given.model_dump(), person=request.state.caller.name, at=_now(request))
    return _kept_record(request, made, "/v1/change-plans")


@router.post("/v1/change-verdicts", status_code=201, response_model=ChangeVerdict, summary="Say what a change is")
def verdict(request: Request, given: Judging) -> Response:
    """Planned, not substantial, or substantial: a person's word, never found by a test."""
    site_of(request).ledger.get(Candidate, given.candidate)
    made = _valid(ChangeVerdict, given.model_dump(), person=request.state.caller.name, at=_now(request))
    return _kept_record(request, made, "/v1/change-verdicts")


@router.post("/v1/documents/{digest}/review", status_code=201, response_model=Document, summary="Review a document")
def review_document(request: Request, digest: ADigest) -> Response:
    """You read it and stand behind it too; its owner can't."""
    found = site_of(request).ledger.get(Document, digest)
    return _kept_record(request, _reviewed(request, found, found.owner), "/v1/documents")


@router.post("/v1/answers/{digest}/review", status_code=201, response_model=Answers, summary="Review answers")
def review_answers(request: Request, digest: ADigest) -> Response:
    """You read them and would answer the same; who gave them can't."""
    found = site_of(request).ledger.get(Answers, digest)
    return _kept_record(request, _reviewed(request, found, found.person), "/v1/answers")


@router.post("/v1/change-plans/{digest}/review", status_code=201, response_model=ChangePlan, summary="Review a plan")
def review_plan(request: Request, digest: ADigest) -> Response:
    """You read it and stand behind it too; who made it can't."""
    found = site_of(request).ledger.get(ChangePlan, digest)
    return _kept_record(request, _reviewed(request, found, found.person), "/v1/change-plans")


@router.post(
    "/v1/change-verdicts/{digest}/review", status_code=201, response_model=ChangeVerdict, summary="Review such a word"
)
def review_verdict(request: Request, digest: ADigest) -> Response:
    """You read it and stand behind it too; whose word it is can't."""
    found = site_of(request).ledger.get(ChangeVerdict, digest)
    return _kept_record(request, _reviewed(request, found, found.person), "/v1/change-verdicts")


def _reviewed(request: Request, found: Reviewable, author: str) -> Reviewable:
    """The same record with the caller as its reviewer, dated now.

    Raises:
        Conflict: it is the caller's own, or somebody reviewed it already.
    """
    person = request.state.caller.name
    if author.lower() == person.lower():
        raise Conflict(f"{person} can't review what is their own: ask somebody else")
    plain = as_first_said(found).digest
    for other in site_of(request).ledger.find(type(found), found.subjects()[0]):
        if other.reviewer and as_first_said(other).digest == plain:
            raise Conflict(f"{other.reviewer} reviewed it already")
    return found.model_copy(update={"reviewer": person, "at": _now(request)})


LONG_AGO = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def as_first_said(found: Document | Answers | ChangePlan | ChangeVerdict) -> Record:
    """A statement without its review and its day: what it and its review have in common."""
    return found.model_copy(update={"reviewer": None if isinstance(found, Answers) else "", "at": LONG_AGO})


def _valid(kind: type[Statement], fields: dict[str, Any], **more: Any) -> Statement:
    try:
        return kind.model_validate(fields | more)
    except ValidationError as error:
        raise InvalidInput(f"this is no {kind.kind.replace('-', ' ')}", faults_of(error)) from error
