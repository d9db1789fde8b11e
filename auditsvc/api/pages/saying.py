"""The forms in which people say what no machine can know: a document, answers, a change plan, a word on a change.

Each form ends in the API's own verb; what a form leaves empty was not given, and a question left alone stays unknown.
"""

from __future__ import annotations

import datetime
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, Response

from auditsvc.api import statements as verbs
from auditsvc.api.guarding import BODY_LIMIT
from auditsvc.api.identity import site_of
from auditsvc.api.pages.forms import Form, given_as
from auditsvc.api.pages.statements import back
from auditsvc.api.rendering import page
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.api.uploads import keep, on_its_way
from auditsvc.compliance import Answers, load_questionnaire
from auditsvc.compliance.framework import load_vocabulary
from auditsvc.errors import InvalidInput
from auditsvc.records import FileEntry, Parent, Submission
from auditsvc.settings import shipped

router = APIRouter(route_class=RoleRoute, include_in_schema=False)

SHOWN = 100
GOOD_FOR = datetime.timedelta(days=365)
"""What the forms suggest as the time for which a statement is good."""

SCREENS = {
    "screen.prohibited": "Prohibited uses",
    "screen.high_risk": "High-risk uses and safety components",
    "screen.role": "Your role",
    "screen.transparency": "What people must be told",
}


def _form(request: Request, template: str, **facts: Any) -> HTMLResponse:
    site: Site = site_of(request)
    models = sorted({item.model for _, item in site.ledger.page(Parent, limit=SHOWN)})
    today = site.clock.now().date()
    facts |= {"tomorrow": today + datetime.timedelta(days=1), "in_a_year": today + GOOD_FOR}
    return page(request, template, "/statements", models=models, **facts)


def _versions(request: Request) -> list[Submission]:
    return [item for _, item in site_of(request).ledger.page(Submission, limit=SHOWN)]


@router.get("/statements/documents")
def document_form(request: Request) -> HTMLResponse:
    """Where a document or an attestation is added."""
    known = load_vocabulary(shipped("policies"))
    by_people = {
        name: kind.means
        for name, kind in known.evidence.items()
        if kind.source == "human" and name.startswith(("data.", "gov."))
    }
    kinds = sorted((known.documents | by_people).items(), key=lambda one: one[1].lower())
    return _form(request, "say_document.html", kinds=kinds, versions=_versions(request))


@router.post("/statements/documents")
async def documented(request: Request) -> Response:
    """Keep the file, take its digest, and add the document under the sender's name."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidInput("this takes a form with a file; programs use the API under /v1")
    async with request.form(max_files=1, max_fields=20, max_part_size=BODY_LIMIT) as sent:
        fields = {name: value for name, value in sent.items() if isinstance(value, str) and name != "file"}
        file = sent.get("file")
        given = given_as(verbs.Documenting, fields)
        if isinstance(file, UploadFile) and file.filename:
            given = given.model_copy(update={"file": await run_in_threadpool(_kept, request, file)})
        await run_in_threadpool(verbs.document, request, given)
    return back()


def _kept(request: Request, sent: UploadFile) -> FileEntry:
    """The file under its own name, less what has no place in a name."""
    site: Site = site_of(request)
    last = re.split(r"[/\\]", sent.filename or "")[-1]
    name = re.sub(r"[^A-Za-z0-9._ -]", "-", last).lstrip("._ -")[-128:] or "document"
    with on_its_way(site) as scratch:
        path: Path = scratch / name
        with path.open("wb") as file:
            while data := sent.file.read(1024**2):
                file.write(data)
        return keep(site, path, request.state.caller.name)[0]


@router.get("/statements/answers")
def answers_form(request: Request, model: str = "") -> HTMLResponse:
    """The questionnaire; one's own newest answers are filled in, nobody else's."""
    asked = load_questionnaire(shipped("policies"))
    own = [
        item
        for item in site_of(request).ledger.find(Answers, model)
        if item.person == request.state.caller.name and item.version == asked.version
    ]
    screens = [(words, [one for one in asked.questions if one.screen == name]) for name, words in SCREENS.items()]
    before = own[-1] if own else None
    return _form(request, "say_answers.html", screens=screens, chosen=model, before=before)


@router.post("/statements/answers")
def answered(request: Request, given: Form) -> Response:
    """Answers under the sender's name; what was not answered is unknown."""
    fields: dict[str, Any] = {"model": given.get("model", ""), "expires": given.get("expires", "")}
    for part in ("answers", "reasons"):
        start = f"{part}."
        fields[part] = {
            name.removeprefix(start): value.strip()
            for name, value in given.items()
            if name.startswith(start) and value.strip()
        }
    verbs.answer(request, given_as(verbs.Answering, fields))
    return back()


@router.get("/statements/change-plans")
def plan_form(request: Request) -> HTMLResponse:
    """Where pruning is planned."""
    return _form(request, "say_plan.html")


@router.post("/statements/change-plans")
def planned(request: Request, given: Form) -> Response:
    """A plan under the sender's name, without a reviewer yet."""
    fields: dict[str, Any] = {name: given.get(name, "") for name in ("model", "words", "expires")}
    fields["methods"] = [name for name in re.split(r"[\s,]+", given.get("methods", "")) if name]
    fields["max_targets"] = _targets(given.get("max_targets", ""))
    for name in ("max_loss", "max_loss_of_a_group"):
        fields[name] = _points(given.get(name, ""))
    verbs.plan(request, given_as(verbs.Planning, fields))
    return back()


def _targets(text: str) -> dict[str, str]:
    """A name and a number on each line; whether it is a number is found with everything else."""
    lines = [re.split(r"[\s:=]+", line.strip(), maxsplit=1) for line in text.splitlines() if line.strip()]
    return {parts[0]: parts[-1] if len(parts) > 1 else "" for parts in lines}


def _points(text: str) -> float | str:
    """Points out of a hundred as a share of 1; what is no number is left for the check to refuse."""
    try:
        return float(Decimal(text.strip()) / 100) if text.strip() else ""
    except InvalidOperation:
        return text


@router.get("/statements/change-verdicts")
def verdict_form(request: Request) -> HTMLResponse:
    """Where somebody says what a change is."""
    return _form(request, "say_verdict.html", versions=_versions(request))


@router.post("/statements/change-verdicts")
def judged(request: Request, given: Form) -> Response:
    """A word on one change under the sender's name, without a reviewer yet."""
    verbs.verdict(request, given_as(verbs.Judging, {name: given.get(name, "") for name in verbs.Judging.model_fields}))
    return back()
