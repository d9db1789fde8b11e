"""A number that was touched is found by following its link, in whatever part of the report it stands."""

from __future__ import annotations

import pytest

from auditsvc.compliance.report.report_model import Report
from auditsvc.compliance.report.report_numbers import check_report_numbers
from tests.compliance import sample
from tests.compliance.test_lint import changed


def followed(report: Report):
    inputs = sample.released()
    return check_report_numbers(report, inputs.decision, inputs.evidence)


def test_every_number_of_a_report_is_in_the_evidence_or_said_to_rest_elsewhere() -> None:
    links = followed(sample.report())
    assert links.faults == ()
    assert links.correct > 200
    expected = sum(2 for _ in sample.siblings()) + 2 * len(sample.suggestions().groups)
    assert links.unavailable == expected


@pytest.mark.parametrize(
    "path",
    [("slices", 0, "rows", 0, "candidate", "value"), ("rules", 0, "rows", 0, "measured", "high"),
     ("curves", 0, "points", 0, "loss", "images"), ("reliability", "parent", 0, "accuracy", "low"),
     ("triage", "rows", 0, "loss", "value"), ("rates", 0, "candidate", 1, "value")],
)  # fmt: skip
def test_a_number_that_was_changed_is_found_with_its_place(path: tuple[str | int, ...]) -> None:
    (fault,) = followed(changed(sample.report(), *path, to=0)).faults
    assert fault.startswith(f"report.{path[0]}")


def test_a_report_of_another_decision_is_found() -> None:
    report = changed(sample.report(), "decision", "record", to="sha256:" + "0" * 64)
    assert "another decision" in followed(report).faults[0]
    other = changed(sample.report(), "subject", "candidate", to="sha256:" + "0" * 64)
    assert "another candidate" in followed(other).faults[0]
