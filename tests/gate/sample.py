"""Policies and evidence of a few lines, to judge by thought."""

from __future__ import annotations

import datetime
from typing import Any

from auditsvc.records import (
    OVERALL,
    Candidate,
    CheckSpec,
    DatasetRef,
    Evidence,
    EvidenceKey,
    Measured,
    Policy,
    Reading,
    Rule,
    Unmeasured,
    Waiver,
    digest_of,
)
from tests.contracts.sample import a_candidate
from tests.fakes import NOON

SHOES = DatasetRef(
    name="shoes", digest=digest_of(b"shoes"), task="classification", images=900, slices=("kind",),
    source="made by a test", licence="CC0-1.0",
)  # fmt: skip

Outcomes = dict[tuple[str, str], Measured | Unmeasured]


def measured(value: float, low: float, high: float, images: int = 500, **more: Any) -> Measured:
    return Measured(value=value, low=low, high=high, images=images, **more)


def a_loss(value: float, reach: float = 0.01, images: int = 500, p: float | None = None) -> Measured:
    return Measured(value=value, low=value - reach, high=value + reach, images=images, p=p)


def a_rule(**fields: Any) -> Rule:
    given = {"rule": "loss", "reading": "accuracy/drop.clean", "why": "a test"} | fields
    return Rule(**(given if "at_least" in given or "at_most" in given else given | {"at_most": 0.05}))


def a_policy(*rules: Rule, **fields: Any) -> Policy:
    judged = rules or (a_rule(),)
    checks = {rule.check: CheckSpec(version=1) for rule in judged}
    given = {"policy": "test", "version": 1, "why": "a test", "seed": 7, "checks": checks, "rules": judged}
    return Policy(**(given | fields))


def a_key(candidate: Candidate | None = None, **fields: Any) -> EvidenceKey:
    subject = candidate or a_candidate()
    given = {
        "candidate": subject.digest, "parent": subject.parent, "dataset": SHOES.digest, "check": "accuracy",
        "version": 1, "parameters": {}, "seed": 7, "alpha": 0.05, "code": "0.1.0",
    }  # fmt: skip
    return EvidenceKey(**(given | fields))


def an_evidence(outcomes: Outcomes, *, days: float = 0, dataset: DatasetRef = SHOES, **key: Any) -> Evidence:
    """Evidence of these outcomes by metric and slice, finished so many days before noon."""
    at = NOON - datetime.timedelta(days=days)
    return Evidence(
        key=a_key(**({"dataset": dataset.digest} | key)),
        dataset=dataset,
        readings=tuple(Reading(metric=metric, slice=name, outcome=it) for (metric, name), it in outcomes.items()),
        environment={},
        started=at,
        finished=at,
    )


def losses(**by_slice: Measured | Unmeasured) -> Outcomes:
    """``drop.clean`` on overall and on the slices ``kind=NAME``."""
    return {
        ("drop.clean", OVERALL if name == OVERALL else f"kind={name}"): outcome for name, outcome in by_slice.items()
    }


def a_waiver(under: Policy, rule: str = "loss", days: int = 10, **fields: Any) -> Waiver:
    given = {
        "candidate": a_candidate().digest, "policy": under.digest, "rule": rule, "person": "bob",
        "reason": "a test", "until": NOON.date() + datetime.timedelta(days=days), "at": NOON,
    }  # fmt: skip
    return Waiver(**(given | fields))
