"""The forms in which people say what no machine can know: a document, answers, a change plan, a word on a change.

Each form ends in the API's own verb; what a form leaves empty was not given, and a question left alone stays unknown.

What people say, as a page: what waits for a second reader, what was reviewed, and who said it.

The review buttons end in the API's own verbs, under the same roles; the author of a statement has none, and reads why.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.compliance import Answers, ChangePlan, ChangeVerdict, Document, Incident, Watch, load_questionnaire
from auditsvc.compliance.assessment.attestations import Risk, current, risk_of
from auditsvc.compliance.assessment.framework import load_vocabulary
from auditsvc.errors import InvalidInput
from auditsvc.records import FileEntry, Parent, Submission
from auditsvc.resources import resource_dir
from auditsvc.web.authentication import site_of
from auditsvc.web.caller import Caller
from auditsvc.web.middleware import BODY_LIMIT
from auditsvc.web.pages.forms import Form, given_as
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import page
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState
from auditsvc.web.v1 import statements as verbs
from auditsvc.web.v1.statements import as_first_said
from auditsvc.web.v1.uploads import keep, on_its_way

router = APIRouter(route_class=RoleRoute, include_in_schema=False)

SHOWN = 100
"""Records of each kind on the page, newest first; the API has all."""

Reviewable = Document | Answers | ChangePlan | ChangeVerdict


@dataclass(frozen=True)
class Card:
    """A statement that a second person reviews, as it stands now."""

    record: Reviewable
    about: str

    REVIEWERS: ClassVar[dict[str, str]] = {
        "document": "auditor",
        "answers": "approver",
        "change-plan": "auditor",
        "change-verdict": "approver",
    }
    PLACES: ClassVar[dict[str, str]] = {
        "document": "documents",
        "answers": "answers",
        "change-plan": "change-plans",
        "change-verdict": "change-verdicts",
    }

    @property
    def author(self) -> str:
        """Who said it."""
        return self.record.owner if isinstance(self.record, Document) else self.record.person

    @property
    def reviewers(self) -> str:
        """The role of those who can review it."""
        return self.REVIEWERS[self.record.kind]

    @property
    def place(self) -> str:
        """Its place in the API and under the pages."""
        return self.PLACES[self.record.kind]

    def is_of(self, caller: Caller) -> bool:
        """Whether the caller said it."""
        return caller.name.lower() == self.author.lower()

    def waits_for(self, caller: Caller) -> bool:
        """Whether the caller can review it."""
        return not self.record.reviewer and caller.may(self.reviewers) and not self.is_of(caller)


@dataclass(frozen=True)
class Declared:
    """The newest answers about a model, and the risk class that follows from them."""

    answers: Answers
    risk: Risk
    open: int


@router.get("/statements")
def statements(request: Request) -> HTMLResponse:
    """Everything that people said lately, by who is to read it next."""
    site, caller = site_of(request), request.state.caller
    cards = [card for kind in (Document, Answers, ChangePlan, ChangeVerdict) for card in _cards(site, kind)]
    waiting = [card for card in cards if not card.record.reviewer]
    groups = (
        ("Waits for you", "Read it; then stand behind it too.", [card for card in waiting if card.waits_for(caller)]),
        (
            "Waits for somebody else",
            "Nobody but its author has read it yet.",
            [card for card in waiting if not card.waits_for(caller)],
        ),
        ("Reviewed", "Two people stand behind it.", [card for card in cards if card.record.reviewer]),
    )
    today = site.clock.now().date()
    facts: dict[str, Any] = {"groups": groups, "declared": _declared(site, today), "today": today}
    facts["now"] = site.clock.now()
    return page(request, "statements.html", "/statements", **facts, **_register(site))


def _register(site: ProjectState) -> dict[str, Any]:
    """The incidents that are known, open ones first, and the newest watch of each model."""
    known = current(item for _, item in reversed(site.ledger.page(Incident, limit=SHOWN)))
    watches: dict[str, Watch] = {}
    for _, item in site.ledger.page(Watch, limit=SHOWN):
        watches.setdefault(item.model, item)
    ordered = sorted(known, key=lambda one: (one.reported is not None, one.due))
    return {"incidents": ordered, "watches": list(watches.values())}


def _cards(
    site: ProjectState, kind: type[Document] | type[Answers] | type[ChangePlan] | type[ChangeVerdict]
) -> list[Card]:
    """The newest record of each statement: with its review, where it has one."""
    found: dict[str, Card] = {}
    for _, record in site.ledger.page(kind, limit=SHOWN):
        same = as_first_said(record).digest
        if same not in found:
            found[same] = Card(record, _about(site, record))
    return list(found.values())


def _about(site: ProjectState, record: Reviewable) -> str:
    """The model, with its version where it is about one candidate."""
    candidate = getattr(record, "candidate", None)
    submissions = site.ledger.find(Submission, candidate) if candidate else ()
    if submissions:
        return f"{submissions[-1].model} {submissions[-1].version}"
    return str(getattr(record, "model", "a candidate"))


def _declared(site: ProjectState, today: datetime.date) -> list[Declared]:
    """The newest answers about each model."""
    asked = load_questionnaire(resource_dir("policies"))
    newest: dict[str, Answers] = {}
    for _, item in site.ledger.page(Answers, limit=SHOWN):
        newest.setdefault(item.model, item)
    return [
        Declared(item, risk_of(asked, item, today), sum(item.answer(one) == "unknown" for one in asked.questions))
        for item in newest.values()
    ]


@router.post("/statements/documents/{digest}/review")
def reviewed_document(request: Request, digest: ADigest) -> Response:
    """The button under a document."""
    verbs.review_document(request, digest)
    return back()


@router.post("/statements/answers/{digest}/review")
def reviewed_answers(request: Request, digest: ADigest) -> Response:
    """The button under answers."""
    verbs.review_answers(request, digest)
    return back()


@router.post("/statements/change-plans/{digest}/review")
def reviewed_plan(request: Request, digest: ADigest) -> Response:
    """The button under a change plan."""
    verbs.review_plan(request, digest)
    return back()


@router.post("/statements/change-verdicts/{digest}/review")
def reviewed_verdict(request: Request, digest: ADigest) -> Response:
    """The button under a word on a change."""
    verbs.review_verdict(request, digest)
    return back()


def back() -> Response:
    """To the page that shows what was said."""
    return RedirectResponse("/statements", 303)


GOOD_FOR = datetime.timedelta(days=365)
"""What the forms suggest as the time for which a statement is good."""

SCREENS = {
    "screen.prohibited": "Prohibited uses",
    "screen.high_risk": "High-risk uses and safety components",
    "screen.role": "Your role",
    "screen.transparency": "What people must be told",
}


def _form(request: Request, template: str, **facts: Any) -> HTMLResponse:
    site: ProjectState = site_of(request)
    models = sorted({item.model for _, item in site.ledger.page(Parent, limit=SHOWN)})
    today = site.clock.now().date()
    facts |= {"tomorrow": today + datetime.timedelta(days=1), "in_a_year": today + GOOD_FOR}
    return page(request, template, "/statements", models=models, **facts)


def _versions(request: Request) -> list[Submission]:
    return [item for _, item in site_of(request).ledger.page(Submission, limit=SHOWN)]


@router.get("/statements/documents")
def document_form(request: Request) -> HTMLResponse:
    """Where a document or an attestation is added."""
    known = load_vocabulary(resource_dir("policies"))
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
    site: ProjectState = site_of(request)
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
    asked = load_questionnaire(resource_dir("policies"))
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
