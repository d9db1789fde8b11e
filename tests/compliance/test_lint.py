"""Each fault of a report is found by its own code, and the samples have none."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any, get_args

import pytest

from auditsvc.compliance.render import FORMATS, render
from auditsvc.compliance.report.report_model import Report
from tests.compliance import sample
from tests.compliance.lint import Code, lint_report, unlinked_numbers

TEXTS = [name for name in FORMATS if name not in {"pdf", "oscal"}]
ELSEWHERE = "sha256:" + "0" * 64


def codes(report: Report, **pages: str) -> set[str]:
    return {fault.code for fault in lint_report(report, pages)}


def changed(report: Report, *path: str | int, to: Any) -> Report:
    """The report with one value replaced."""
    data = report.model_dump()
    place: Any = data
    for step in path[:-1]:
        place = place[step]
    if isinstance(place, tuple):
        raise TypeError("name a field, not a tuple's place")
    place[path[-1]] = to
    return Report.model_validate(data)


@pytest.mark.parametrize("name", ["released", "rejected"])
def test_no_sample_has_a_fault_in_any_rendering(name: str) -> None:
    report = sample.report(name)
    assert lint_report(report, {form: render(report, form).decode() for form in TEXTS}) == ()


@pytest.mark.parametrize("word", ["compliant", "Certified", "non-compliant", "guaranteed", "in compliance with"])
def test_a_word_that_promises_too_much_is_found(word: str) -> None:
    assert codes(sample.report(), page=f"This model is {word} everything.") == {"FORBIDDEN_WORD"}


def test_a_tick_is_found() -> None:
    assert codes(sample.report(), page="Accuracy \u2714") == {"TICK"}


def test_a_script_and_a_dead_link_are_found() -> None:
    assert codes(sample.report(), page='<html><a href="#nowhere">x</a><script>1</script>') == {"BROKEN_LINK", "SCRIPT"}


def test_a_verdict_older_than_its_evidence_is_found() -> None:
    early = sample.MORNING - datetime.timedelta(hours=1)
    assert "CONCLUSION_BEFORE_EVIDENCE" in codes(changed(sample.report(), "decision", "at", to=early))


def test_a_limit_younger_than_its_result_is_found() -> None:
    assert "LIMIT_YOUNGER_THAN_RESULT" in codes(changed(sample.report(), "decision", "policy_at", to=sample.EVENING))


def test_a_good_word_without_a_record_is_found() -> None:
    report = sample.report()
    at, part = next((n, part) for n, part in enumerate(report.frameworks) if part.framework == "nist-ai-rmf-1.0")
    row = next(n for n, row in enumerate(part.rows) if row.status == "supported")
    assert "GOOD_WITHOUT_RECORD" in codes(changed(report, "frameworks", at, "rows", row, "records", to=()))


def test_a_row_that_does_not_apply_needs_a_reason() -> None:
    report = sample.report()
    places = ((n, m, row) for n, part in enumerate(report.frameworks) for m, row in enumerate(part.rows))
    at, row = next((n, m) for n, m, row in places if row.status == "out_of_scope")
    unsaid = changed(report, "frameworks", at, "rows", row, "status", to="not_applicable")
    assert "NOT_APPLICABLE_WITHOUT_REASON" in codes(changed(unsaid, "frameworks", at, "rows", row, "message", to=" "))


def test_every_code_has_a_test_that_finds_it() -> None:
    tests = Path(__file__).read_text(encoding="utf-8")
    assert [code for code in get_args(Code) if f'"{code}"' not in tests] == []


def test_expired_evidence_behind_a_good_word_is_found() -> None:
    assert "EXPIRED_SHOWN_AS_GOOD" in codes(changed(sample.report(), "evidence", 0, "expired", to=True))


def test_a_number_that_links_to_nothing_is_found() -> None:
    broken = changed(sample.report(), "slices", 0, "rows", 0, "candidate", "evidence", to=ELSEWHERE)
    assert unlinked_numbers(sample.report()) == ()
    assert unlinked_numbers(broken) == ("report.slices[0].rows[0].candidate",)
    assert codes(broken) == {"NUMBER_WITHOUT_EVIDENCE"}


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("flips", 0, "evidence"), ELSEWHERE),
        (("exemplars", "evidence"), ELSEWHERE),
        (("suggested", "rows", 0, "held_out_loss", "evidence"), ELSEWHERE),
        (("frontier", 0, "score", "evidence"), ELSEWHERE),
        (("reliability", "candidate", 0, "accuracy", "evidence"), ELSEWHERE),
        (("triage", "rows", 0, "loss", "evidence"), ELSEWHERE),
        (("summary", "sentences", 0, "evidence"), (ELSEWHERE,)),
    ],
)
def test_every_kind_of_number_must_link_to_its_evidence(path: tuple[str | int, ...], to: object) -> None:
    assert codes(changed(sample.report(), *path, to=to)) == {"NUMBER_WITHOUT_EVIDENCE"}


def test_counts_that_are_not_those_of_the_lines_are_found() -> None:
    assert codes(changed(sample.report(), "summary", "counts", "met", to=99)) == {"COUNTS_DIFFER"}


def test_prose_copied_from_another_models_report_is_found() -> None:
    other = changed(sample.report(), "subject", "model", to="plate-reader")
    assert {fault.code for fault in lint_report(sample.report(), others=(other,))} == {"BOILERPLATE"}
    assert lint_report(sample.report(), others=(sample.report("rejected"),)) == ()
