"""Whether every number of a report is what its evidence says: the records beside a release against its report.

A report links each number to the digest of its evidence.  Here the link is followed: the evidence must hold a reading
with exactly that value, interval and number of images, or the decision must have judged it.  Numbers that rest on
records which a release does not carry (other candidates, suggestions, other seeds) are counted, not passed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from auditsvc.compliance.model import Report
from auditsvc.records import Decision, Digest, Evidence, Measured, Value

_Number = tuple[float, float, float, int]


class Links(Value):
    """What following every link of a report gave: how many held, what is wrong, and how many lead elsewhere."""

    held: int
    faults: tuple[str, ...]
    elsewhere: int


def follow(report: Report, decision: Decision, evidence: Iterable[Evidence]) -> Links:
    """Follow every number of the report to these records."""
    known = _known(decision, evidence)
    faults = []
    if report.decision.record != decision.digest:
        faults.append(f"report.decision: it is of another decision, {report.decision.record}")
    if report.subject.candidate != decision.candidate:
        faults.append(f"report.subject: it is of another candidate, {report.subject.candidate}")
    held = elsewhere = 0
    for where, digest, number in _numbers(report.model_dump(mode="json"), "report"):
        if digest not in known:
            elsewhere += 1
        elif number in known[digest]:
            held += 1
        else:
            faults.append(f"{where}: {number[0]:g} is not in the evidence {digest}")
    return Links(held=held, faults=tuple(faults), elsewhere=elsewhere)


def _known(decision: Decision, evidence: Iterable[Evidence]) -> Mapping[Digest, set[_Number]]:
    """For each evidence its numbers, and those that the decision judged of it."""
    known: dict[Digest, set[_Number]] = {}
    for run in evidence:
        outcomes = (reading.outcome for reading in run.readings)
        known[run.digest] = {_number(one) for one in outcomes if isinstance(one, Measured)}
    for line in decision.judgements:
        if line.evidence in known and isinstance(line.outcome, Measured):
            known[line.evidence].add(_number(line.outcome))
    return known


def _number(outcome: Measured) -> _Number:
    return (outcome.value, outcome.low, outcome.high, outcome.images)


def _numbers(value: Any, where: str) -> Iterator[tuple[str, Digest, _Number]]:
    """Every measured number of a report with its place and the evidence that it names."""
    if isinstance(value, dict):
        if value.get("state") == "measured":
            yield where, value["evidence"], (value["value"], value["low"], value["high"], value["images"])
        for name, inner in value.items():
            yield from _numbers(inner, f"{where}.{name}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _numbers(inner, f"{where}[{number}]")
