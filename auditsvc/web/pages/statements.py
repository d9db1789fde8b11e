"""Statements and incidents: the page that lists them, the forms that add them, and the review buttons.

Each form does what the route of the API does, under the same role. An empty field counts as left out, and a
question without an answer stays unknown. The author of a statement sees no review button, and the reason.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import Any, get_args

from fastapi import Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.compliance.assessment.assessment_context import ReportInputs
from auditsvc.compliance.assessment.attestations import (
    REPORTING_DAYS,
    Answers,
    ChangePlan,
    ChangeVerdict,
    Document,
    Harm,
    Incident,
    Risk,
    Watch,
    current,
    risk_of,
)
from auditsvc.compliance.assessment.evidence_status import EvidenceStatus, kind_title
from auditsvc.compliance.assessment.framework import load_frameworks, load_questionnaire, load_vocabulary
from auditsvc.compliance.assessment.rules import Assessment, assess
from auditsvc.compliance.report.summary import lacking, owner_of
from auditsvc.errors import InvalidInput, NotFound
from auditsvc.records import Candidate, Decision, Parent, Release, Submission
from auditsvc.resources import resource_dir
from auditsvc.services import incidents, statements
from auditsvc.services.statements import (
    REVIEWERS,
    Statement,
    assessment_context,
    author_of,
    parse_draft,
    without_review,
)
from auditsvc.services.terms import decision_records
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.token_store import Caller
from auditsvc.web.middleware import BODY_LIMIT
from auditsvc.web.pages.statement_forms import FORMS
from auditsvc.web.record_routes import form_route
from auditsvc.web.rendering import page
from auditsvc.web.state import ProjectState
from auditsvc.web.v1 import statements as api
from auditsvc.web.v1.uploads import store_form_file

router = Router(include_in_schema=False)

KEPT = 20
"""Models whose assessments are kept until the log grows."""

SHOWN = 100
"""Records of each kind on the page, newest first; the API has all."""

DAY = datetime.timedelta(days=1)
VALID_FOR = 365 * DAY
"""The validity that the forms suggest for a statement."""

PATHS: dict[type[Statement], str] = {
    Document: "documents",
    Answers: "answers",
    ChangePlan: "change-plans",
    ChangeVerdict: "change-verdicts",
}
"""The path of each kind of statement, under ``/statements`` and under ``/v1``."""

SCREENS = {
    "screen.prohibited": "Prohibited uses",
    "screen.high_risk": "High-risk uses and safety components",
    "screen.role": "Your role",
    "screen.transparency": "Transparency obligations",
}


@dataclass(frozen=True)
class Card:
    """A statement on the page, with what it is about."""

    record: Statement
    about: str

    @property
    def author(self) -> str:
        """The person who made the statement."""
        return author_of(self.record)

    @property
    def reviewers(self) -> str:
        """The role that reviews it."""
        return REVIEWERS[type(self.record)]

    @property
    def path(self) -> str:
        """Its path under ``/statements`` and under ``/v1``."""
        return PATHS[type(self.record)]

    def is_of(self, caller: Caller) -> bool:
        """Whether the caller is its author."""
        return caller.name.lower() == self.author.lower()

    def awaits(self, caller: Caller) -> bool:
        """Whether the caller can review it."""
        return not self.record.reviewer and caller.may(self.reviewers) and not self.is_of(caller)


@dataclass(frozen=True)
class DeclaredRisk:
    """The newest answers about a model, the risk class that follows from them, and how many questions are open."""

    answers: Answers
    risk: Risk
    open: int


@dataclass(frozen=True)
class Due:
    """A requirement that lacks evidence: of which kinds, from whom, and from which day on."""

    row: Assessment
    lacks: tuple[EvidenceStatus, ...]


_ASSESSED: dict[tuple[str, str, int], dict[str, tuple[str, list[Assessment]]]] = {}
"""Assessments of the models that were opened last, by project, model and size of the log."""


def _assessed(site: ProjectState, model: str) -> dict[str, tuple[str, list[Assessment]]]:
    """Each framework's name and assessments for the newest decided version of a model; empty where none is decided."""
    key = (str(site.folder), model, site.ledger.size())
    if key in _ASSESSED:
        return _ASSESSED[key]
    ledger, found = site.ledger, {}
    for _, candidate in ledger.page(Candidate, subject=model, limit=SHOWN):
        decisions, submissions = ledger.find(Decision, candidate.digest), ledger.find(Submission, candidate.digest)
        if decisions and submissions:
            version = submissions[-1].version
            records = decision_records(ReportInputs, ledger, model, version, candidate, decisions[-1])
            releases = ledger.find(Release, decisions[-1].digest)
            inputs = replace(records, release=releases[-1] if releases else None)
            context = replace(assessment_context(site.ctx, inputs), at=site.clock.now())
            for one in load_frameworks(resource_dir("policies")):
                found[one.framework] = (one.short, list(assess(one, context)))
            break
    if len(_ASSESSED) >= KEPT:
        _ASSESSED.clear()
    _ASSESSED[key] = found
    return found


def _due(site: ProjectState, model: str, framework: str, owner: str, q: str) -> dict[str, Any]:
    """What the requirements of a framework lack, by day, and the choices of the filters."""
    models = _models(site)
    decided = [site.ledger.get(Candidate, one.candidate).model for _, one in site.ledger.page(Decision, limit=1)]
    model = model or next(iter([*decided, *models]), "")
    known = _assessed(site, model) if model else {}
    framework = framework if framework in known else next(iter(known), "")
    rows = []
    for row in known[framework][1] if framework else ():
        lacks = tuple(one for one in lacking(row) if owner in ("", owner_of(one.kind)))
        words = f"{row.requirement} {row.title} {' '.join(kind_title(one.kind) for one in lacks)}".lower()
        if lacks and q.strip().lower() in words:
            rows.append(Due(row, lacks))
    rows.sort(key=lambda one: str(one.row.due or ""))
    days = [(day, list(group)) for day, group in groupby(rows, key=lambda one: one.row.due)]
    owners = sorted({owner_of(one.kind) for _, found in known.values() for row in found for one in lacking(row)})
    frameworks = [(name, short) for name, (short, _) in known.items()]
    return {"models": models, "model": model, "framework": framework, "frameworks": frameworks, "owners": owners,
            "owner": owner, "q": q, "due": days, "kind_title": kind_title, "owner_of": owner_of}  # fmt: skip


@router.get("/statements", needs="reader")
def statements_page(
    request: Request, model: str = "", framework: str = "", owner: str = "", q: str = ""
) -> HTMLResponse:
    """What requirements lack, by day and owner; the newest statements, by who reviews them; the incident register."""
    site, caller = site_of(request), request.state.caller
    cards = statement_cards(site)
    pending = [card for card in cards if not card.record.reviewer]
    yours = [card for card in pending if card.awaits(caller)]
    others = [card for card in pending if not card.awaits(caller)]
    groups = (
        ("Awaiting your review", "Read it, then confirm that you agree.", yours),
        ("Awaiting review", "Only its author has read it so far.", others),
        ("Reviewed", "Confirmed by two people.", [card for card in cards if card.record.reviewer]),
    )
    now = site.clock.now()
    facts: dict[str, Any] = {"groups": groups, "declared": _declared(site, now.date()), "today": now.date(), "now": now}
    facts |= _due(site, model, framework, owner, q[:100]) | {"forms": FORMS}
    return page(request, "statements.html", "/statements", **facts, **_register(site))


def _register(site: ProjectState) -> dict[str, Any]:
    """The known incidents, open ones first, and the newest watch of each model."""
    known = current(item for _, item in reversed(site.ledger.page(Incident, limit=SHOWN)))
    watches: dict[str, Watch] = {}
    for _, item in site.ledger.page(Watch, limit=SHOWN):
        watches.setdefault(item.model, item)
    ordered = sorted(known, key=lambda one: (one.reported is not None, one.due))
    return {"incidents": ordered, "watches": list(watches.values())}


def statement_cards(site: ProjectState) -> list[Card]:
    """The newest statements of every kind, each in its newest state."""
    return [card for kind in PATHS for card in _cards(site, kind)]


def _cards(site: ProjectState, kind: type[Statement]) -> list[Card]:
    """The newest record of each statement: its review, where it has one."""
    found: dict[str, Card] = {}
    for _, record in site.ledger.page(kind, limit=SHOWN):
        original = without_review(record).digest
        if original not in found:
            found[original] = Card(record, _about(site, record))
    return list(found.values())


def _about(site: ProjectState, record: Statement) -> str:
    """The model, with its version where the statement is about one candidate."""
    candidate = getattr(record, "candidate", None)
    submissions = site.ledger.find(Submission, candidate) if candidate else ()
    if submissions:
        return f"{submissions[-1].model} {submissions[-1].version}"
    return str(getattr(record, "model", "a candidate"))


def _declared(site: ProjectState, today: datetime.date) -> list[DeclaredRisk]:
    """The risk class from the newest answers about each model."""
    questionnaire = load_questionnaire(resource_dir("policies"))
    newest: dict[str, Answers] = {}
    for _, item in site.ledger.page(Answers, limit=SHOWN):
        newest.setdefault(item.model, item)
    return [
        DeclaredRisk(
            item,
            risk_of(questionnaire, item, today),
            sum(item.answer(one) == "unknown" for one in questionnaire.questions),
        )
        for item in newest.values()
    ]


def _listed(_request: Request, _digest: str) -> str:
    return "/statements"


def _form(request: Request, template: str, **facts: Any) -> HTMLResponse:
    return page(request, template, "/statements", models=_models(site_of(request)), **facts)


def _models(site: ProjectState) -> list[str]:
    return sorted({item.model for _, item in site.ledger.page(Parent, limit=SHOWN)})


def _choices(site: ProjectState) -> dict[str, list[tuple[str, str]]]:
    """The options that the fields of a form name."""
    versions = [(one.candidate, f"{one.model} {one.version}") for _, one in site.ledger.page(Submission, limit=SHOWN)]
    known = load_vocabulary(resource_dir("policies"))
    kinds = known.documents | {
        name: kind.means
        for name, kind in known.evidence.items()
        if kind.source == "human" and name.startswith(("data.", "gov."))
    }
    return {
        "models": [(name, name) for name in _models(site)],
        "versions": versions,
        "all or one": [("", "all versions"), *versions],
        "kinds": [("", "Choose a kind"), *sorted(kinds.items(), key=lambda one: one[1].lower())],
        "harms": [(harm, f"{harm} (report within {REPORTING_DAYS[harm]} days)") for harm in get_args(Harm)],
        "verdicts": [(one, one or "Choose a verdict") for one in ("", "planned", "not substantial", "substantial")],
    }


@router.post("/statements/documents", needs="submitter")
async def create_document(request: Request) -> Response:
    """Store the file, then the document under the sender's name."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InvalidInput("this takes a multipart form with a file; programs use the API under /v1")
    person, ctx = request.state.caller.name, site_of(request).ctx
    async with request.form(max_files=1, max_fields=20, max_part_size=BODY_LIMIT) as form:
        fields = {name: value for name, value in form.items() if isinstance(value, str) and name != "file"}
        file = form.get("file")
        draft = parse_draft(statements.DocumentDraft, fields)
        if isinstance(file, UploadFile) and file.filename:
            stored = await run_in_threadpool(store_form_file, site_of(request), file, person, "document")
            draft = draft.model_copy(update={"file": stored})
        await run_in_threadpool(statements.add_document, ctx, draft, person)
    return RedirectResponse("/statements", 303)


@router.get("/statements/answers", needs="reader")
def answers_form(request: Request, model: str = "") -> HTMLResponse:
    """The questionnaire, filled in with the caller's own newest answers, never with those of another person."""
    questionnaire = load_questionnaire(resource_dir("policies"))
    own = [
        item
        for item in site_of(request).ledger.find(Answers, model)
        if item.person == request.state.caller.name and item.version == questionnaire.version
    ]
    screens = [(title, [one for one in questionnaire.questions if one.screen == name])
               for name, title in SCREENS.items()]  # fmt: skip
    before, tomorrow = own[-1] if own else None, site_of(request).clock.now().date() + DAY
    return _form(request, "answers_form.html", screens=screens, chosen=model, before=before, tomorrow=tomorrow,
                 in_a_year=tomorrow - DAY + VALID_FOR)  # fmt: skip


def _answers(given: dict[str, str]) -> dict[str, Any]:
    """A question without an answer is unknown."""
    fields: dict[str, Any] = {"model": given.get("model", ""), "expires": given.get("expires", "")}
    for part in ("answers", "reasons"):
        start = f"{part}."
        fields[part] = {
            name.removeprefix(start): value.strip()
            for name, value in given.items()
            if name.startswith(start) and value.strip()
        }
    return fields


def _change_plan(given: dict[str, str]) -> dict[str, Any]:
    fields: dict[str, Any] = {name: given.get(name, "") for name in ("model", "words", "expires")}
    fields["methods"] = [name for name in re.split(r"[\s,]+", given.get("methods", "")) if name]
    fields["max_targets"] = _targets(given.get("max_targets", ""))
    return fields | {name: _fraction(given.get(name, "")) for name in ("max_loss", "max_loss_of_a_group")}


def _targets(text: str) -> dict[str, str]:
    """A name and a number on each line; the draft checks whether it is a number."""
    lines = [re.split(r"[\s:=]+", line.strip(), maxsplit=1) for line in text.splitlines() if line.strip()]
    return {parts[0]: parts[-1] if len(parts) > 1 else "" for parts in lines}


def _fraction(text: str) -> float | str:
    """Percentage points as a fraction of 1; text that is not a number is left for the draft to refuse."""
    try:
        return float(Decimal(text.strip()) / 100) if text.strip() else ""
    except InvalidOperation:
        return text


@router.get("/statements/{kind}", needs="reader")
def statement_form(request: Request, kind: str, document: str = "", model: str = "") -> HTMLResponse:
    """The form of one kind of statement; ``document`` and ``model`` are chosen already.  Raises ``NotFound``."""
    site, form = site_of(request), FORMS.get(kind)
    if form is None:
        raise NotFound(f"there is no form {kind!r}; see /statements for all of them")
    now = site.clock.now()
    today = now.date()
    days = {"today": today, "tomorrow": today + DAY, "in a year": today + VALID_FOR, "a month ago": today - 30 * DAY,
            "now": f"{now:%Y-%m-%dT%H:%M}"}  # fmt: skip
    facts: dict[str, Any] = {"choices": _choices(site), "days": days, "chosen": {"document": document, "model": model}}
    return _form(request, "statement_form.html", form=form, kind=kind, **facts)


def _utc(text: str) -> str:
    """A form's date and time, which has no zone: the form says that it is UTC."""
    return f"{text}+00:00" if text and "+" not in text and not text.endswith("Z") else text


def _dated(name: str) -> Callable[[dict[str, str]], Mapping[str, Any]]:
    return lambda given: {**given, name: _utc(given.get(name, ""))}


for _path, _needs, _create, _draft, _fields in (
    ("answers", "auditor", api.create_answers, statements.AnswersDraft, _answers),
    ("change-plans", "submitter", api.create_change_plan, statements.ChangePlanDraft, _change_plan),
    ("change-verdicts", "auditor", api.create_change_verdict, statements.ChangeVerdictDraft, dict),
    ("incidents", "auditor", api.create_incident, incidents.IncidentDraft, _dated("aware")),
    ("incidents/{digest}/reports", "auditor", api.create_incident_report, incidents.IncidentReport, _dated("reported")),
    ("incident-watches", "auditor", api.create_incident_watch, incidents.WatchDraft, dict),
):
    form_route(router, f"/statements/{_path}", _needs, _create, _draft, _listed, _fields)
for _kind, _path in PATHS.items():
    form_route(router, f"/statements/{_path}/{{digest}}/reviews", REVIEWERS[_kind], api.REVIEWS[_kind], None, _listed)
