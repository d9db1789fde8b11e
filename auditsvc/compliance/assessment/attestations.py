"""Statements by named people: documents, questionnaire answers, change plans, incidents and incident watches.

Each is an immutable record; a newer one replaces an older one by its date.  A statement alone never makes a requirement
``supported``: a reviewed one is ``attested``.  The register of serious incidents shows whether each known incident was
reported in time; that none is known is itself a statement by a named person, with a period.

Reference: Regulation (EU) 2024/1689, Art. 3(23), Art. 13(3)(c), Art. 73 and Annex IV 2(f).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from auditsvc.compliance.assessment.framework import Question, Questionnaire
from auditsvc.records import Digest, FileEntry, Moment, Name, Record, Text, Value

Answer = Literal["yes", "no", "unknown"]
RiskClass = Literal["prohibited", "high-risk", "not high-risk", "unknown"]


class Claim(Value):
    """A number stated in a document; it is rounded to ``decimals`` and compared with the evidence."""

    metric: Text
    slice: Text = "overall"
    value: float
    decimals: Annotated[int, Field(ge=0, le=9)] = 3


class _AboutModel(Record):
    """A statement about a model line."""

    model: Name
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name."""
        return (self.model,)


def _check_reviewer(author: str, reviewer: str | None, what: str) -> None:
    if reviewer == author:
        raise ValueError(f"{author} can't review {what} of their own")


class Document(_AboutModel):
    """A document or statement about a model line, or about one candidate of it.

    ``document`` is one of the kinds of ``policies/frameworks/_vocabulary.yaml``.  The reviewer is another
    person than the owner; a document without a reviewer was not read independently.
    """

    kind: ClassVar[str] = "document"
    event: ClassVar[str] = "document.submitted"

    document: Annotated[str, Field(pattern=r"^(doc|data|gov)\.[a-z_]+$")]
    title: Text
    file: FileEntry | None = None
    statement: str = ""
    owner: Name
    reviewer: str = ""
    candidate: Digest | None = None
    claims: tuple[Claim, ...] = ()
    expires: datetime.date

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.file is None and not self.statement.strip():
            raise ValueError("a document needs a file or a statement")
        _check_reviewer(self.owner, self.reviewer, "a document")
        if self.expires <= self.at.date():
            raise ValueError("a document must expire at least one day after it was submitted")
        return self

    def subjects(self) -> tuple[str, ...]:
        """Found by the model's name, and by the candidate where it is about one."""
        return (self.model, *((self.candidate,) if self.candidate else ()))


class Answers(_AboutModel):
    """A named person's answers to the questionnaire.  A question without an answer is ``unknown``, never ``no``."""

    kind: ClassVar[str] = "answers"
    event: ClassVar[str] = "questionnaire.answered"

    questionnaire: Name
    version: int
    answers: dict[str, Answer]
    person: Name
    reviewer: Name | None = None
    reasons: dict[str, str] = {}
    expires: datetime.date

    @model_validator(mode="after")
    def _two_people(self) -> Self:
        _check_reviewer(self.person, self.reviewer, "answers")
        return self

    def answer(self, question: Question) -> Answer:
        """The answer to one question."""
        return self.answers.get(question.question, "unknown")


class ChangePlan(_AboutModel):
    """Which pruning is planned before the first release, and within which limits.

    A change inside the plan is foreseen (Annex IV 2(f), Art. 13(3)(c)); one outside may be a substantial
    modification (Art. 3(23)), and then the assessment starts again.
    """

    kind: ClassVar[str] = "change-plan"
    event: ClassVar[str] = "change-plan.submitted"

    methods: Annotated[tuple[Name, ...], Field(min_length=1)]
    max_targets: dict[str, float]
    max_loss: Annotated[float, Field(ge=0, le=1)]
    max_loss_of_a_group: Annotated[float, Field(ge=0, le=1)]
    words: Text
    person: Name
    reviewer: str = ""
    expires: datetime.date

    @model_validator(mode="after")
    def _two_people(self) -> Self:
        _check_reviewer(self.person, self.reviewer, "a plan")
        return self


class ChangeVerdict(Record):
    """A named person's classification of one change: planned, not substantial, or substantial."""

    kind: ClassVar[str] = "change-verdict"
    event: ClassVar[str] = "change.assessed"

    candidate: Digest
    verdict: Literal["planned", "not substantial", "substantial"]
    reason: Text
    person: Name
    reviewer: str = ""
    at: Moment

    @model_validator(mode="after")
    def _two_people(self) -> Self:
        _check_reviewer(self.person, self.reviewer, "a verdict")
        return self

    def subjects(self) -> tuple[str, ...]:
        """Found by the candidate."""
        return (self.candidate,)


class Risk(Value):
    """The risk class under the EU AI Act as declared by a named person; no test can determine it."""

    declared: RiskClass
    person: str = ""
    at: Moment | None = None
    because: tuple[str, ...] = ()
    record: Digest | None = None


def risk_of(questionnaire: Questionnaire, answers: Answers | None, today: datetime.date) -> Risk:
    """The declared risk class: the worst answer wins, and one open question leaves it unknown."""
    if answers is None:
        return Risk(declared="unknown", because=("the questionnaire was not answered",))
    who = {"person": answers.person, "at": answers.at, "record": answers.digest}
    if today > answers.expires:
        return Risk(declared="unknown", because=(f"the answers expired on {answers.expires.isoformat()}",), **who)
    for screen, meaning in (("screen.prohibited", "prohibited"), ("screen.high_risk", "high-risk")):
        asked = [question for question in questionnaire.questions if question.screen == screen]
        yes = tuple(q.row for q in asked if answers.answer(q) == "yes" and q.question != "art6.1a")
        if yes:
            return Risk(declared="prohibited" if meaning == "prohibited" else "high-risk", because=yes, **who)
        open_ones = [question for question in asked if answers.answer(question) == "unknown"]
        if open_ones:
            first = f"{len(open_ones)} questions are not answered, for instance: {open_ones[0].text}"
            return Risk(declared="unknown", because=(first,), **who)
    return Risk(declared="not high-risk", because=("every screening question was answered with no",), **who)


Harm = Literal[
    "death", "health", "property or environment", "fundamental rights", "critical infrastructure", "widespread"
]

REPORTING_DAYS: dict[Harm, int] = {
    "death": 10,
    "health": 15,
    "property or environment": 15,
    "fundamental rights": 15,
    "critical infrastructure": 2,
    "widespread": 2,
}
"""Days from awareness to the report: Art. 73(2); for death 73(4); for critical infrastructure and widespread
infringements 73(3).  The law requires a report immediately, and at the latest after these days."""


def period_end(event: Moment, days: int) -> Moment:
    """The last second of a period of days that begins with an event.

    The day of the event does not count; a period that would end on a Saturday or Sunday ends with the next working day,
    and one of two days or more has at least two working days.  Days are those of UTC (east of
    Greenwich the local day ends earlier), and public holidays are not known here, so that the result may be early.

    Reference: Regulation (EEC, Euratom) No 1182/71, Art. 3; the text was not at hand when this was written.
    """
    last = event.astimezone(datetime.UTC).date() + datetime.timedelta(days=days)
    first = event.astimezone(datetime.UTC).date() + datetime.timedelta(days=1)

    def working() -> int:
        return sum((first + datetime.timedelta(days=one)).weekday() < 5 for one in range((last - first).days + 1))

    while last.weekday() >= 5 or (days >= 2 and working() < 2):
        last += datetime.timedelta(days=1)
    return datetime.datetime.combine(last, datetime.time(23, 59, 59), datetime.UTC)


class Incident(_AboutModel):
    """One serious incident with a model line; ``aware`` starts the clock, ``reported`` stops it."""

    kind: ClassVar[str] = "incident"
    event: ClassVar[str] = "incident.registered"

    candidate: Digest | None = None
    harm: Harm
    words: Text
    aware: Moment
    reported: Moment | None = None
    authority: str = ""
    reference: str = ""
    person: Name

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.reported is not None and (self.reported < self.aware or not self.authority.strip()):
            raise ValueError("a report must follow the awareness date and name the authority")
        return self

    @property
    def due(self) -> Moment:
        """The deadline for the report to the authority: the end of the last day of the period."""
        return period_end(self.aware, REPORTING_DAYS[self.harm])

    @property
    def reminder(self) -> Moment:
        """The same number of times 24 hours after awareness: earlier than the deadline, to be safe."""
        return self.aware + datetime.timedelta(days=REPORTING_DAYS[self.harm])

    @property
    def case(self) -> tuple[str, str, str, str]:
        """The key of an incident; a later record with the same key replaces this one.  Two incidents of one kind and
        minute differ by their words."""
        return (self.model, self.harm, self.aware.isoformat(), self.words)


class Watch(_AboutModel):
    """A named person watched for incidents in a period and knows of none except those registered."""

    kind: ClassVar[str] = "incident-watch"
    event: ClassVar[str] = "incidents.monitored"

    since: datetime.date
    until: datetime.date
    words: Text
    person: Name

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if not self.since <= self.until <= self.at.date():
            raise ValueError("an incident watch must begin before it ends, and end before it is recorded")
        return self


def current(incidents: Iterable[Incident]) -> tuple[Incident, ...]:
    """The newest record of each incident, oldest incident first."""
    newest = {incident.case: incident for incident in sorted(incidents, key=lambda one: one.at)}
    return tuple(sorted(newest.values(), key=lambda one: one.aware))
