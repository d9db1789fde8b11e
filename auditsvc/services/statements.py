"""Statements by named people: documents, questionnaire answers, change plans and change verdicts.

They cover what no test can measure. Each statement is a record under its author's name. A second person reviews it: the
review is the same record again, with the reviewer's name and a later time, and the newest record counts. The API, the
pages and the command line all call the functions of this module, so the same rules apply in all three.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from auditsvc.compliance.assessment.assessment_context import AssessmentContext, ReportInputs
from auditsvc.compliance.assessment.attestations import (
    Answer,
    Answers,
    ChangePlan,
    ChangeVerdict,
    Claim,
    Document,
    Incident,
    Watch,
)
from auditsvc.compliance.assessment.framework import load_questionnaire
from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.ports import Context, Ledger, Log
from auditsvc.records import (
    Candidate,
    CheckFailed,
    Digest,
    FileEntry,
    Moment,
    Monitoring,
    Name,
    Parent,
    Record,
    Rollback,
    Text,
    faults_of,
    person_key,
)
from auditsvc.resources import resource_dir

Statement = Document | Answers | ChangePlan | ChangeVerdict
S = TypeVar("S", Document, Answers, ChangePlan, ChangeVerdict)
D = TypeVar("D", bound=BaseModel)

REVIEWERS: dict[type[Record], Literal["auditor", "approver"]] = {
    Document: "auditor",
    ChangePlan: "auditor",
    Answers: "approver",
    ChangeVerdict: "approver",
}
"""The role that reviews each kind of statement; the author can never review their own."""

Fraction = Annotated[float, Field(ge=0, le=1)]


class DocumentDraft(BaseModel):
    """A document or a written statement about a model, or about one candidate of it."""

    model: Name
    document: Annotated[str, Field(pattern=r"^(doc|data|gov)\.[a-z_]+$", examples=["doc.instructions"])]
    title: Text
    file: Annotated[FileEntry | None, Field(description="An entry of `files` from `POST /v1/uploads`.")] = None
    statement: Annotated[str, Field(max_length=20_000)] = ""
    candidate: Digest | None = None
    claims: Annotated[tuple[Claim, ...], Field(max_length=100)] = ()
    expires: datetime.date


class AnswersDraft(BaseModel):
    """Answers to the questionnaire; a question that is left out is `unknown`, never `no`."""

    model: Name
    answers: dict[Annotated[str, Field(max_length=100)], Answer]
    reasons: dict[Annotated[str, Field(max_length=100)], Annotated[str, Field(max_length=4000)]] = {}
    expires: datetime.date


class ChangePlanDraft(BaseModel):
    """The pruning that is planned before the first release, and its limits as fractions of 1."""

    model: Name
    methods: Annotated[tuple[Name, ...], Field(min_length=1, max_length=50)]
    max_targets: dict[str, float] = {}
    max_loss: Fraction
    max_loss_of_a_group: Fraction
    words: Text
    expires: datetime.date


class ChangeVerdictDraft(BaseModel):
    """Whether one change is planned, not substantial or substantial, and why."""

    candidate: Digest
    verdict: Literal["planned", "not substantial", "substantial"]
    reason: Text


def parse_draft(kind: type[D], fields: Mapping[str, Any]) -> D:
    """A draft from named fields; a field that is empty counts as left out.

    Raises:
        InvalidInput: the fields don't fit; lists every fault.
    """
    try:
        return kind.model_validate({name: value for name, value in fields.items() if value not in ("", None)})
    except ValidationError as error:
        raise InvalidInput("the fields are not valid", faults_of(error)) from error


def add_document(ctx: Context, draft: DocumentDraft, author: str) -> Document:
    """Store a document under its author's name, without a reviewer.

    Raises:
        NotFound: the model, the candidate or the uploaded file is not in this store.
        InvalidInput: the candidate belongs to another model, there is neither file nor statement, or it has expired.
    """
    require_model(ctx.ledger, draft.model, draft.candidate)
    if draft.file is not None and not ctx.blobs.has(draft.file.digest):
        raise NotFound(f"the file {draft.file.digest} is not in this store; send it to /v1/uploads first")
    return _append(ctx, _record(Document, draft, owner=author, at=ctx.clock.now()), author)


def add_answers(ctx: Context, draft: AnswersDraft, author: str) -> Answers:
    """Store answers to the current questionnaire under their author's name.

    Raises:
        NotFound: the model is not in this store.
        InvalidInput: a question that the questionnaire does not have, or the answers have expired.
    """
    require_model(ctx.ledger, draft.model)
    questionnaire = load_questionnaire(resource_dir("policies"))
    known = {question.question for question in questionnaire.questions}
    unknown = sorted({*draft.answers, *draft.reasons} - known)
    if unknown:
        raise InvalidInput("the questionnaire has no such question", [f"no question {name}" for name in unknown])
    now = ctx.clock.now()
    if draft.expires <= now.date():
        raise InvalidInput("the answers must be valid for at least one day; give a later `expires`")
    about = {"questionnaire": questionnaire.questionnaire, "version": questionnaire.version}
    return _append(ctx, _record(Answers, draft, **about, person=author, at=now), author)


def add_change_plan(ctx: Context, draft: ChangePlanDraft, author: str) -> ChangePlan:
    """Store a change plan; a later change within its limits counts as planned.

    Raises:
        NotFound: the model is not in this store.
        InvalidInput: the plan has expired.
    """
    require_model(ctx.ledger, draft.model)
    return _append(ctx, _record(ChangePlan, draft, person=author, at=ctx.clock.now()), author)


def add_change_verdict(ctx: Context, draft: ChangeVerdictDraft, author: str) -> ChangeVerdict:
    """Store a person's verdict on one change; no test can give it.

    Raises:
        NotFound: the candidate is not in this store.
    """
    ctx.ledger.get(Candidate, draft.candidate)
    return _append(ctx, _record(ChangeVerdict, draft, person=author, at=ctx.clock.now()), author)


def review(ctx: Context, kind: type[S], digest: Digest, reviewer: str) -> S:
    """Review a statement: store it again with the reviewer's name.

    Raises:
        NotFound: there is no such statement.
        Conflict: the reviewer is its author, or it was reviewed already.
    """
    statement = ctx.ledger.get(kind, digest)
    if person_key(author_of(statement)) == person_key(reviewer):
        raise Conflict(f"{reviewer} is the author and can't review it; another person must")
    original = without_review(statement).digest
    for other in ctx.ledger.find(kind, statement.subjects()[0]):
        if other.reviewer and without_review(other).digest == original:
            raise Conflict(f"{other.reviewer} reviewed it already")
    return _append(ctx, statement.model_copy(update={"reviewer": reviewer, "at": ctx.clock.now()}), reviewer)


def author_of(statement: Statement) -> str:
    """The name of the person who made the statement."""
    return statement.owner if isinstance(statement, Document) else statement.person


def without_review(statement: Statement) -> Record:
    """The statement without reviewer and time: equal for a statement and its review."""
    epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return statement.model_copy(update={"reviewer": None if isinstance(statement, Answers) else "", "at": epoch})


def require_model(ledger: Ledger, model: str, candidate: Digest | None = None) -> None:
    """Check that the model is registered, and that the candidate belongs to it.

    Raises:
        NotFound: no such model or candidate.
        InvalidInput: the candidate belongs to another model.
    """
    if not ledger.find(Parent, model):
        raise NotFound(f"the model {model} is not registered; register its parent first")
    if candidate is not None and ledger.get(Candidate, candidate).model != model:
        raise InvalidInput(f"the candidate {candidate} does not belong to {model}")


def _record(kind: type[S], draft: BaseModel, **fields: Any) -> S:
    try:
        return kind.model_validate(draft.model_dump() | fields)
    except ValidationError as error:
        raise InvalidInput(f"this {kind.kind.replace('-', ' ')} is not valid", faults_of(error)) from error


def _append(ctx: Context, record: S, actor: str) -> S:
    ctx.ledger.append(record, actor=actor)
    return record


def assessment_context(ctx: Context, inputs: ReportInputs) -> AssessmentContext:
    """What people said about the model, and when the policy was first held."""
    ledger, model, candidate = ctx.ledger, inputs.model, inputs.candidate.digest
    found = AssessmentContext(
        inputs=inputs,
        questionnaire=load_questionnaire(resource_dir("policies")),
        at=max([inputs.decision.at, *(approval.at for approval in inputs.approvals)]),
        documents=ledger.find(Document, model),
        answers=ledger.find(Answers, model),
        plans=ledger.find(ChangePlan, model),
        verdicts=ledger.find(ChangeVerdict, candidate),
        failed=ledger.find(CheckFailed, candidate),
        policy_at=_logged_at(ctx.log, inputs.policy.digest),
        incidents=ledger.find(Incident, model),
        watches=ledger.find(Watch, model),
        rollbacks=ledger.find(Rollback, model),
        monitorings=ledger.find(Monitoring, candidate),
    )
    later = (found.documents, found.answers, found.plans, found.verdicts, found.incidents, found.watches)
    used = (*later, found.rollbacks, found.monitorings, (inputs.release,) if inputs.release else ())
    return replace(found, at=max(found.at, *(one.at for kind in used for one in kind), found.at))


def _logged_at(log: Log, digest: Digest) -> Moment | None:
    """When the log first held this record; None for one that was never logged."""
    try:
        event = json.loads(log.leaf(log.leaf_index(digest)))
    except NotFound:
        return None
    return datetime.datetime.fromisoformat(event["at"])
