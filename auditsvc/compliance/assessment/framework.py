"""Frameworks as data: requirements, the evidence that each needs, and when it applies.

One YAML file in ``policies/frameworks`` is one framework; adding one needs no code.  Dates come from the part of the
law that a requirement belongs to (its placement) and are never written at the requirement.
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
"""The status of a requirement.  No status states that a law is met."""

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
"""Order of precedence where a requirement needs several kinds of evidence."""

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
"""Framework data that were checked longer ago than this are printed with a warning."""


class StartDate(Value):
    """From which day a part of a law applies, and for what or by which interpretation."""

    when: Text
    date: datetime.date


class Placement(Value):
    """A part of a law with its start date; ``disputed`` explains differing interpretations, which are all printed."""

    title: Text
    dates: Annotated[tuple[StartDate, ...], Field(min_length=1)]
    high_risk_only: bool = False
    disputed: str = ""


class Requirement(Value):
    """One numbered requirement."""

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
    """Reporting deadline in days after awareness, for incidents of ``harms`` or of any kind."""
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
        """Whether the data were last checked against their sources too long ago."""
        return (today - self.data_checked).days > FRESH_DAYS


class Question(Value):
    """One question of the questionnaire; ``row`` is the requirement that it decides alone, if any."""

    question: Name
    screen: Literal["screen.prohibited", "screen.high_risk", "screen.role", "screen.transparency"]
    row: str = ""
    text: Text
    help: str = ""


class Questionnaire(Value):
    """Questions to a named person about facts that no test can determine."""

    questionnaire: Name
    version: int
    data_checked: datetime.date
    questions: Annotated[tuple[Question, ...], Field(min_length=1)]


class KindOfEvidence(Value):
    """One kind of evidence and its source; of ``outside`` ones nothing that is shipped is the source."""

    source: Literal["automatic", "human", "outside"]
    means: Text


class Vocabulary(Value):
    """Definitions of the terms used in the framework files."""

    statuses: dict[Status, str]
    worst_first: tuple[Status, ...]
    rules: dict[RuleName, str]
    evidence: dict[str, KindOfEvidence]
    documents: dict[str, str]


def load_frameworks(policies: Path) -> tuple[Framework, ...]:
    """Every framework of ``policies/frameworks``, by file name.

    Raises:
        InvalidInput: a file is not a valid framework or names an unknown kind of evidence; lists all faults.
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
        raise InvalidInput("the frameworks are not valid", faults)
    return tuple(found)


def load_vocabulary(policies: Path) -> Vocabulary:
    """The definitions of terms.

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
