"""A framework is data: its requirements, what each rests on, and from when it applies.

One YAML file in ``policies/frameworks`` is one framework; a new one touches no code.  Dates are derived from
the place of a row in its law and never written at the row.
"""

from __future__ import annotations

import datetime
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from auditsvc.errors import InvalidInput
from auditsvc.records import Name, Text, Value, faults_of

V = TypeVar("V", bound=Value)

Status = Literal[
    "supported",
    "attested",
    "partly",
    "contradicted",
    "waived",
    "missing",
    "insufficient",
    "stale",
    "unverified",
    "not_applicable",
    "not_yet_due",
    "out_of_scope",
    "not_assessed",
]
"""How a requirement stands.  No status means that a law is met."""

WORST_FIRST: tuple[Status, ...] = (
    "unverified",
    "contradicted",
    "missing",
    "insufficient",
    "stale",
    "waived",
    "not_assessed",
    "partly",
    "attested",
    "supported",
)
"""When several kinds of evidence meet, the first of these wins."""

RuleName = Literal[
    "R-TEST",
    "R-MIX",
    "R-DOC",
    "R-SCREEN",
    "R-EVENT",
    "R-PRES",
    "R-PRIOR",
    "R-MATCH",
    "R-SIGNED",
    "R-KEEP",
    "R-CHANGE",
    "R-CLOCK",
    "R-ROLLUP",
    "R-ORG",
    "R-NONE",
]

FRESH_DAYS = 90
"""Frameworks that nobody checked for longer than this are printed with a warning."""


class StartDate(Value):
    """From which day a part of a law applies, and to what or by which reading."""

    when: Text
    date: datetime.date


class Placement(Value):
    """A part of a law that applies from one day; ``disputed`` says why readings differ, and then all are printed."""

    title: Text
    dates: Annotated[tuple[StartDate, ...], Field(min_length=1)]
    high_risk_only: bool = False
    disputed: str = ""


class Requirement(Value):
    """One numbered demand."""

    id: Text
    key: Name
    title: Text
    reference: Text
    group: Text
    assessability: Literal["automatic", "mixed", "attestation", "out_of_scope", "repealed"]
    evidence: tuple[Text, ...] = ()
    rule: RuleName
    role: str = ""
    placement: str = ""
    amended_by: str = ""
    applies_note: str = ""
    note: str = ""
    within_days: Annotated[int, Field(ge=1)] | None = None
    """For a clock: so many days after somebody knew the authority must be told; of ``harms``, or of any."""
    harms: tuple[Text, ...] = ()


class Framework(Value):
    """A named list of requirements, as checked against its sources on one day."""

    framework: Name
    name: Text
    short: Text
    version: Text
    standing: Text
    data_checked: datetime.date
    sources: Annotated[tuple[Text, ...], Field(min_length=1)]
    groups: dict[str, str]
    placements: dict[str, Placement] = {}
    requirements: Annotated[tuple[Requirement, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        keys = [row.key for row in self.requirements]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ValueError(f"requirements with the same key: {', '.join(twice)}")
        for row in self.requirements:
            if row.group not in self.groups:
                raise ValueError(f"{row.id} names the unknown group {row.group!r}")
            if row.placement and row.placement not in self.placements:
                raise ValueError(f"{row.id} names the unknown placement {row.placement!r}")
        return self

    def stale(self, today: datetime.date) -> bool:
        """Whether nobody has checked this data against its sources for too long."""
        return (today - self.data_checked).days > FRESH_DAYS


class Question(Value):
    """One question of the questionnaire; ``row`` is the requirement that it decides, where it is one alone."""

    question: Name
    screen: Literal["screen.prohibited", "screen.high_risk", "screen.role", "screen.transparency"]
    row: str = ""
    text: Text
    help: str = ""


class Questionnaire(Value):
    """Questions to a named person about what no test can find out."""

    questionnaire: Name
    version: int
    data_checked: datetime.date
    questions: Annotated[tuple[Question, ...], Field(min_length=1)]


class KindOfEvidence(Value):
    """What one kind of evidence means and where it comes from."""

    source: Literal["automatic", "human"]
    means: Text


class Vocabulary(Value):
    """What the words in the frameworks mean."""

    statuses: dict[Status, str]
    worst_first: tuple[Status, ...]
    rules: dict[RuleName, str]
    evidence: dict[str, KindOfEvidence]
    documents: dict[str, str]


def load_frameworks(policies: Path) -> tuple[Framework, ...]:
    """Every framework of ``policies/frameworks``, by file name.

    Raises:
        InvalidInput: a file that is no framework or names an unknown kind of evidence; all faults are listed.
    """
    faults: list[str] = []
    found = []
    known = load_vocabulary(policies)
    for path in sorted((policies / "frameworks").glob("[!_]*.yaml")):
        try:
            framework = Framework.model_validate(_read(path))
        except ValidationError as error:
            faults += [f"{path.name}: {fault}" for fault in faults_of(error)]
            continue
        kinds = {kind for row in framework.requirements for kind in row.evidence}
        faults += [
            f"{path.name}: unknown kind of evidence {k}" for k in sorted(kinds - {*known.evidence, *known.documents})
        ]
        found.append(framework)
    if faults:
        raise InvalidInput("the frameworks can't be used", faults)
    return tuple(found)


def load_vocabulary(policies: Path) -> Vocabulary:
    """The words of the frameworks.

    Raises:
        InvalidInput: the file is missing or does not fit.
    """
    return _load(Vocabulary, policies / "frameworks" / "_vocabulary.yaml")


def load_questionnaire(policies: Path) -> Questionnaire:
    """The questions about risk class and role.

    Raises:
        InvalidInput: the file is missing or does not fit.
    """
    return _load(Questionnaire, policies / "frameworks" / "_questionnaire.yaml")


def _load(kind: type[V], path: Path) -> V:
    try:
        return kind.model_validate(_read(path))
    except ValidationError as error:
        raise InvalidInput(f"{path.name} can't be used", faults_of(error)) from error


@cache
def _parse(text: str) -> Any:
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 - both are safe loaders


def _read(path: Path) -> Any:
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path.name} can't be read: {error}") from error
    except yaml.YAMLError as error:
        raise InvalidInput(f"{path.name} is not YAML: {error}") from error
