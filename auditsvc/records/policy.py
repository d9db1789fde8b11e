"""Policies: which checks are run, and the rules that judge what they found."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from auditsvc.records.base import Digest, Name, Record, TaskName, Text, Value
from auditsvc.records.evidence import OVERALL

Severity = Literal["block", "warn"]
"""``block``: the candidate can't be approved while this rule does not hold.  ``warn``: it is shown."""

EACH = "each"
"""The slice selector for every slice of the data set."""


def matches(pattern: str, name: str) -> bool:
    """Whether a name matches a pattern, in which ``*`` matches any run of characters and nothing else is special.

    Brackets and question marks are literal: names of binned slices contain them.  Each part between stars is found at
    its first place, so the time grows with the lengths and not with a power of the number of stars.
    """
    first, *rest = pattern.split("*")
    if not rest:
        return name == pattern
    if not name.startswith(first):
        return False
    place = len(first)
    for part in rest[:-1]:
        found = name.find(part, place)
        if found < 0:
            return False
        place = found + len(part)
    return len(name) - place >= len(rest[-1]) and name.endswith(rest[-1])


class CheckSpec(Value):
    """One check of a policy, pinned to its version and parameters, so that it cannot be rerun with others."""

    version: Annotated[int, Field(ge=1)]
    parameters: dict[str, Any] = {}


class Slicing(Value):
    """Slices in addition to those of the data set's columns: products, measured properties, expressions.

    ``depth`` is how many columns are crossed at most, ``columns`` which ones (all, if none is named); a product
    is formed where it contains at least ``min_images`` images.  ``image`` gives for each property measured of the
    images (brightness, contrast, sharpness, colourfulness, size, border) into how many bins of equal size they are put.
    ``classes`` makes each class a slice, ``class=cat``: a loss there is one of recall.  ``named`` are expressions over
    the others: ``{older-women: "gender=F & age_group=65+"}``.
    """

    depth: Annotated[int, Field(ge=1, le=3)] = 1
    min_images: Annotated[int, Field(ge=1)] = 30
    columns: tuple[str, ...] | None = None
    image: dict[Name, Annotated[int, Field(ge=2, le=20)]] = {}
    classes: Literal[True] | None = None
    named: dict[Name, Text] = {}


class Rule(Value):
    """One sentence: this reading, on these slices, must be at least or at most this limit.

    ``reading`` is ``check/metric``; a ``*`` matches any run of characters and must match at least one
    metric that the check declares.  A slice with fewer than ``min_images`` images can fail, never pass: it
    is ``unknown``, at the severity ``below_minimum``, unless even those few images show that the limit is broken; and a
    rule for which *no* slice is large enough is ``unknown`` at its own severity.

    ``family`` names the rules whose losses are tested together when harmed slices are named (Holm); a rule is
    a family of its own unless it says otherwise.  ``waivers: never`` means that the rule cannot be
    waived.  ``of: incumbent`` judges the difference from the same reading of the candidate that is released now:
    ``at_least: -0.01`` lets a score be one point lower.
    """

    rule: Name
    reading: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*/[A-Za-z0-9._@+*-]+$", max_length=400)]
    slices: str | tuple[str, ...] = OVERALL
    at_least: float | None = None
    at_most: float | None = None
    of: Literal["incumbent"] | None = None
    severity: Severity = "block"
    min_images: Annotated[int, Field(ge=1)] = 1
    below_minimum: Severity = "block"
    family: Name | None = None
    waivers: Literal["never"] | None = None
    why: Text

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError(f"rule {self.rule!r} needs exactly one of at_least and at_most")
        if not self.slices:
            raise ValueError(f"rule {self.rule!r} names no slice")
        return self

    @property
    def check(self) -> str:
        """The check whose reading is judged."""
        return self.reading.partition("/")[0]

    @property
    def metric(self) -> str:
        """The metric, or the pattern of metrics, that is judged."""
        return self.reading.partition("/")[2]

    @property
    def limit(self) -> float:
        """The number that the reading is compared with."""
        return self.at_least if self.at_least is not None else self.at_most or 0.0

    @property
    def selectors(self) -> tuple[str, ...]:
        """The slices that are named: names, patterns, ``each``."""
        return (self.slices,) if isinstance(self.slices, str) else self.slices

    def chosen(self, known: Iterable[str]) -> tuple[str, ...]:
        """The slices, of those that are known, that this rule judges; a selector that fits none stays as it is."""
        names = tuple(known)
        chosen: list[str] = []
        for selector in self.selectors:
            found = [name for name in names if (name != OVERALL if selector == EACH else matches(selector, name))]
            chosen += found or [selector]
        return tuple(dict.fromkeys(chosen))

    def selects(self, name: str) -> bool:
        """Whether this rule judges a slice of this name."""
        return any(name != OVERALL if selector == EACH else matches(selector, name) for selector in self.selectors)

    def sentence(self) -> str:
        """The rule in words."""
        where = ", ".join(self.selectors)
        bound = "at least" if self.at_least is not None else "at most"
        less = " less the incumbent's" if self.of else ""
        return f"{self.reading} on {where}{less} must be {bound} {self.limit:g}"


class Policy(Record):
    """A named, versioned list of checks and rules.  In use it is immutable: a change is a new digest."""

    kind: ClassVar[str] = "policy"
    event: ClassVar[str] = "policy.recorded"

    policy: Name
    version: Annotated[int, Field(ge=1)]
    why: Text
    task: TaskName = "any"
    """The task that it is for, or ``any``."""
    alpha: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    approvals: Annotated[int, Field(ge=1, le=9)] = 2
    roles: dict[Name, Annotated[tuple[Name, ...], Field(min_length=1)]] | None = None
    """Who may approve in which role; each role needs one approval, and one person counts for one role only."""
    max_age_days: Annotated[int, Field(ge=1)] = 90
    max_evaluations: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many candidates of a model may be judged on one data set: they share alpha.  See ``records.eligibility``."""
    spend_alpha: Literal[True] | None = None
    """Alpha is spent over a model's candidates on the same images, most on the first.  See ``records.eligibility``."""
    stages: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=2, max_length=20)] | None = None
    """Shares of the images after which a decided audit stops; they share alpha.  See ``evaluation.sequential``."""
    datasets: tuple[Digest, ...] = ()
    """Data sets that evidence may come from; none named means: the one that the audit was given."""
    slicing: Slicing | None = None
    checks: Annotated[dict[Name, CheckSpec], Field(min_length=1)]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = [rule.rule for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rules with the same name: {', '.join(twice)}")
        if self.stages and (list(self.stages) != sorted(set(self.stages)) or self.stages[-1] != 1):
            raise ValueError("stages are shares of the images in rising order, the last of them 1")
        if self.spend_alpha and self.max_evaluations:
            raise ValueError("spend_alpha and max_evaluations both divide alpha; give one of them")
        if self.roles is not None and len(self.roles) > self.approvals:
            raise ValueError(f"{len(self.roles)} roles need as many approvals; there are {self.approvals}")
        if all(rule.severity == "warn" or rule.of for rule in self.rules):
            raise ValueError(
                "a policy in which no rule blocks would approve anything; give one rule severity: block, "
                "and let it not compare with the incumbent alone"
            )
        return self

    @property
    def level(self) -> float:
        """The alpha of each interval for the first candidate on its images: the largest that any candidate gets."""
        return self.level_of(1)

    def level_of(self, evaluation: int) -> float:
        """The alpha of each interval for the candidate of this ordinal among those on the same images, from 1."""
        share = 1 / (self.max_evaluations or 1)
        if self.spend_alpha:
            share = 0.75 if evaluation == 1 else 0.25 / (evaluation * (evaluation - 1))
        return self.alpha * share / len(self.stages or (1.0,))

    def subjects(self) -> tuple[str, ...]:
        """Found by its name and by ``name/version``."""
        return (self.policy, f"{self.policy}/{self.version}")


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of policy files, for editors: the grammar as it is checked."""
    schema = Policy.model_json_schema() | {"title": "auditsvc policy"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
