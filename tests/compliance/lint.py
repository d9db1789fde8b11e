"""Errors of a finished report that a reader does not see: a positive status without a record, a conclusion older than
its evidence, text copied from the report of another model.  Each fault has a stable code and a location.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, Literal

from auditsvc.compliance.report.report_model import Report
from auditsvc.compliance.report.report_numbers import parts_of
from auditsvc.compliance.report.wording import minute
from auditsvc.records import Value

Code = Literal[
    "FORBIDDEN_WORD",
    "TICK",
    "GOOD_WITHOUT_RECORD",
    "NOT_APPLICABLE_WITHOUT_REASON",
    "EXPIRED_SHOWN_AS_GOOD",
    "CONCLUSION_BEFORE_EVIDENCE",
    "LIMIT_YOUNGER_THAN_RESULT",
    "BOILERPLATE",
    "NUMBER_WITHOUT_EVIDENCE",
    "COUNTS_DIFFER",
    "BROKEN_LINK",
    "SCRIPT",
]

FORBIDDEN = re.compile(r"\b(?:(?:non-?)?compliant|in compliance with|certified|guaranteed)\b", re.IGNORECASE)
"""Words that promise what no test can show."""

TICKS = re.compile("[\u2713\u2714\u2705\u2611\U0001f5f8\U0001f5f9\U0001f7e2]")
"""Ticks and green circles."""

MIN_WORDS = 8
SIMILAR = 0.9
"""Free text of at least this many words with this similarity in the reports of two models counts as copied."""


class Fault(Value):
    """One fault of a report and its location."""

    code: Code
    where: str
    message: str


def lint_report(
    report: Report, pages: Mapping[str, str] | None = None, others: Sequence[Report] = ()
) -> tuple[Fault, ...]:
    """Every fault of a report, of its text renderings by name, and against reports on other models."""
    faults = [
        *_records(report),
        *_times(report),
        *_number_tokens(report),
        *_boilerplate(report, others),
        *(fault for name, page in (pages or {}).items() for fault in _page(name, page)),
    ]
    return tuple(faults)


def _records(report: Report) -> Iterator[Fault]:
    """A positive status needs records that have not expired."""
    expired = {row.record for row in report.evidence if row.expired}
    for rule in report.rules:
        for row in rule.rows:
            where = f"{rule.rule} on {row.slice}"
            if row.status == "met" and row.measured.state == "unmeasured":
                yield Fault(code="GOOD_WITHOUT_RECORD", where=where, message="met, but nothing was measured")
            if row.status == "met" and row.measured.evidence in expired and "expired" not in report.decision.headline:
                yield Fault(code="EXPIRED_SHOWN_AS_GOOD", where=where, message="met by evidence that has expired")
    for part in report.frameworks:
        for line in part.rows:
            where = f"{part.framework} {line.requirement}"
            if line.status in {"supported", "attested", "partly"} and not line.records:
                yield Fault(code="GOOD_WITHOUT_RECORD", where=where, message=f"{line.status} without a record")
            if line.status == "supported" and expired.intersection(line.records):
                yield Fault(code="EXPIRED_SHOWN_AS_GOOD", where=where, message="supported by evidence that has expired")
            if line.status == "not_applicable" and not line.message.strip():
                yield Fault(code="NOT_APPLICABLE_WITHOUT_REASON", where=where, message="no reason is given")


def _times(report: Report) -> Iterator[Fault]:
    """First the limit, then the measurement, then the decision, then the approvals, then the release."""
    decision = report.decision
    for run in report.evidence:
        if run.finished > decision.at:
            message = f"decided at {minute(decision.at)}, measured at {minute(run.finished)}"
            yield Fault(code="CONCLUSION_BEFORE_EVIDENCE", where=run.check, message=message)
        if decision.policy_at and decision.policy_at > run.started:
            message = (
                f"the policy was recorded at {minute(decision.policy_at)}, the test started at {minute(run.started)}"
            )
            yield Fault(code="LIMIT_YOUNGER_THAN_RESULT", where=run.check, message=message)
    for approval in decision.approvals:
        if approval.at < decision.at:
            message = "approved before it was decided"
            yield Fault(code="CONCLUSION_BEFORE_EVIDENCE", where=approval.person, message=message)
        if decision.released and decision.released < approval.at:
            message = "released before it was approved"
            yield Fault(code="CONCLUSION_BEFORE_EVIDENCE", where=approval.person, message=message)
    if report.at < decision.at:
        yield Fault(code="CONCLUSION_BEFORE_EVIDENCE", where="report", message="the report is older than its decision")


def _number_tokens(report: Report) -> Iterator[Fault]:
    """Every number names evidence that is in the index, and the counts are those of the lines."""
    yield from (
        Fault(code="NUMBER_WITHOUT_EVIDENCE", where=where, message="its evidence is not listed in this report")
        for where in unlinked_numbers(report)
    )
    counts = report.summary.counts.model_dump()
    lines = [row.status for rule in report.rules for row in rule.rows]
    for status, number in counts.items():
        if lines.count(status) != number:  # type: ignore[arg-type]
            message = f"{number} on the first page, {lines.count(status)} lines"  # type: ignore[arg-type]
            yield Fault(code="COUNTS_DIFFER", where=status, message=message)


def unlinked_numbers(report: Report) -> tuple[str, ...]:
    """Locations of numbers without evidence, or with evidence that is not in the index of the report."""
    index = {row.record for row in report.evidence} | {fact.label for fact in report.related}
    parts = parts_of(report.model_dump(mode="json"), "report")
    return tuple(where for where, part in parts if not _is_linked(part, index))


def _is_linked(part: dict[str, Any], index: set[str]) -> bool:
    found = part.get("evidence")
    named = [digest for digest in (found if isinstance(found, list) else [found]) if isinstance(digest, str)]
    return index.issuperset(named) and (bool(named) or part.get("state") != "measured")


def _free_text(report: Report) -> Iterator[tuple[str, str]]:
    """Text written by people, in contrast to text of this tool."""
    yield "intended use", report.subject.intended_use
    yield "not for", report.subject.not_for
    yield from ((f"approval by {one.person}", one.comment) for one in report.decision.approvals)
    yield from ((f"waiver of {one.rule}", one.reason) for one in report.waivers)
    yield from ((f"statement {one.kind}", one.title) for one in report.statements)


def _boilerplate(report: Report, others: Sequence[Report]) -> Iterator[Fault]:
    elsewhere = [
        (other.subject.model, text)
        for other in others
        if other.subject.model != report.subject.model
        for _, text in _free_text(other)
        if len(text.split()) >= MIN_WORDS
    ]
    for where, text in _free_text(report):
        if len(text.split()) < MIN_WORDS:
            continue
        for model, theirs in elsewhere:
            if SequenceMatcher(None, text.lower(), theirs.lower()).ratio() >= SIMILAR:
                yield Fault(code="BOILERPLATE", where=where, message=f"nearly the same text as in a report on {model}")


def _page(name: str, page: str) -> Iterator[Fault]:
    for match in FORBIDDEN.finditer(page):
        yield Fault(code="FORBIDDEN_WORD", where=name, message=_around(page, match))
    for match in TICKS.finditer(page):
        yield Fault(code="TICK", where=name, message=_around(page, match))
    if "<html" not in page:
        return
    targets = set(re.findall(r'\sid="([^"]+)"', page))
    for link in dict.fromkeys(re.findall(r'href="#([^"]+)"', page)):
        if link not in targets:
            yield Fault(code="BROKEN_LINK", where=name, message=f"#{link} has no target")
    if re.search(r"<script|\son[a-z]+=|javascript:", page, re.IGNORECASE):
        yield Fault(code="SCRIPT", where=name, message="the page runs a script")


def _around(page: str, match: re.Match[str]) -> str:
    return " ".join(page[max(0, match.start() - 40) : match.end() + 40].split())
