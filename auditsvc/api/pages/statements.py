"""What people say, as a page: what waits for a second reader, what was reviewed, and who said it.

The review buttons end in the API's own verbs, under the same roles; the author of a statement has none, and reads why.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any, ClassVar

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from auditsvc.api import statements as verbs
from auditsvc.api.identity import Caller, site_of
from auditsvc.api.reading import ADigest
from auditsvc.api.rendering import page
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.api.statements import as_first_said
from auditsvc.compliance import Answers, ChangePlan, ChangeVerdict, Document, Incident, Watch, load_questionnaire
from auditsvc.compliance.human import Risk, risk_of
from auditsvc.compliance.incidents import current
from auditsvc.records import Submission
from auditsvc.settings import shipped

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


def _register(site: Site) -> dict[str, Any]:
    """The incidents that are known, open ones first, and the newest watch of each model."""
    known = current(item for _, item in reversed(site.ledger.page(Incident, limit=SHOWN)))
    watches: dict[str, Watch] = {}
    for _, item in site.ledger.page(Watch, limit=SHOWN):
        watches.setdefault(item.model, item)
    ordered = sorted(known, key=lambda one: (one.reported is not None, one.due))
    return {"incidents": ordered, "watches": list(watches.values())}


def _cards(site: Site, kind: type[Document] | type[Answers] | type[ChangePlan] | type[ChangeVerdict]) -> list[Card]:
    """The newest record of each statement: with its review, where it has one."""
    found: dict[str, Card] = {}
    for _, record in site.ledger.page(kind, limit=SHOWN):
        same = as_first_said(record).digest
        if same not in found:
            found[same] = Card(record, _about(site, record))
    return list(found.values())


def _about(site: Site, record: Reviewable) -> str:
    """The model, with its version where it is about one candidate."""
    candidate = getattr(record, "candidate", None)
    submissions = site.ledger.find(Submission, candidate) if candidate else ()
    if submissions:
        return f"{submissions[-1].model} {submissions[-1].version}"
    return str(getattr(record, "model", "a candidate"))


def _declared(site: Site, today: datetime.date) -> list[Declared]:
    """The newest answers about each model."""
    asked = load_questionnaire(shipped("policies"))
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
