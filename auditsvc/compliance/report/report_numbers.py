"""Compare a finished report with the records of a release.

Each number names the digest of its evidence, and that evidence must contain a reading with exactly this value, interval
and number of images, or the decision must have evaluated it.  Numbers of records that a release does not contain (other
candidates, suggested groups, other seeds) are counted separately and never as correct.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from auditsvc.compliance.report.report_model import Report
from auditsvc.records import Decision, Digest, Evidence, Measured, Value

_Number = tuple[float, float, float, int]


class NumberCheck(Value):
    """The numbers of a report that equal their evidence, the faults, and the numbers without available evidence."""

    correct: int
    faults: tuple[str, ...]
    unavailable: int


def check_report_numbers(report: Report, decision: Decision, evidence: Iterable[Evidence]) -> NumberCheck:
    """Compare every number of the report with these records."""
    known = _known(decision, evidence)
    faults = []
    if report.decision.record != decision.digest:
        faults.append(f"report.decision: the report is about another decision, {report.decision.record}")
    if report.subject.candidate != decision.candidate:
        faults.append(f"report.subject: the report is about another candidate, {report.subject.candidate}")
    correct = unavailable = 0
    for where, digest, number in _numbers(report):
        if digest not in known:
            unavailable += 1
        elif number in known[digest]:
            correct += 1
        else:
            faults.append(f"{where}: {number[0]:g} is not in the evidence {digest}")
    return NumberCheck(correct=correct, faults=tuple(faults), unavailable=unavailable)


def _known(decision: Decision, evidence: Iterable[Evidence]) -> Mapping[Digest, set[_Number]]:
    """The numbers of each evidence record, and those of it that the decision evaluated."""
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


def _numbers(report: Report) -> Iterator[tuple[str, Digest, _Number]]:
    """Every measured number of a report with its location and the digest of its evidence."""
    for where, part in parts_of(report.model_dump(mode="json"), "report"):
        if part.get("state") == "measured":
            yield where, part["evidence"], (part["value"], part["low"], part["high"], part["images"])


def parts_of(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object in a report with its location, outer ones first."""
    if isinstance(value, dict):
        yield where, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in inner:
        yield from parts_of(part, f"{where}[{name}]" if isinstance(value, list) else f"{where}.{name}")
