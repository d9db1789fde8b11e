"""The frontier, the reliability curve and the examples show what the records say."""

from __future__ import annotations

import dataclasses

import pytest

from auditsvc.compliance.render.html import render_html
from auditsvc.compliance.report.build import build_report
from auditsvc.errors import InvalidInput
from tests.compliance import sample
from tests.compliance.lint import lint_report


def test_the_frontier_holds_every_candidate_by_what_is_left_and_marks_this_one():
    report = sample.report("rejected")
    assert [(point.version, point.outcome, point.subject) for point in report.frontier] == [
        ("2", "approved", False), ("3", "rejected", True), ("4", "rejected", False)]  # fmt: skip
    page = render_html(report)
    assert all(f'id="evidence-{fact.label[7:19]}"' in page for fact in report.related)
    assert lint_report(report, {"html": page}) == ()


def test_without_other_candidates_there_is_no_frontier():
    report = build_report(dataclasses.replace(sample.rejected(), siblings=()), at=sample.EVENING)
    assert report.frontier == () and 'id="frontier"' not in render_html(report)


def test_a_candidate_of_another_parent_is_refused():
    other = dataclasses.replace(
        sample.siblings()[0], candidate=sample.candidate(0.1).model_copy(update={"parent": "sha256:" + "1" * 64})
    )
    with pytest.raises(InvalidInput) as caught:
        build_report(dataclasses.replace(sample.rejected(), siblings=(other,)), at=sample.EVENING)
    assert any("another parent" in reason for reason in caught.value.reasons)


def test_the_reliability_curve_is_drawn_with_every_bin_and_its_numbers():
    report = sample.report("rejected")
    assert report.reliability is not None
    assert len(report.reliability.bins()) == 8
    assert "confidence 60.5\u00a0%, correct 55.5\u00a0%" in render_html(report)


def test_examples_stand_beside_their_curve_weakest_first():
    report = sample.report("rejected")
    assert [one.condition for one in report.examples if one.family == "occlusion.square"] == [
        "occlusion.square@0.1",
        "occlusion.square@0.25",
    ]
    page = render_html(report)
    assert all(one.alt in page for one in report.examples)


def test_changed_answers_are_counted_from_the_readings_and_not_from_the_pictures():
    report = sample.report("rejected")
    clean = report.flips[0]
    assert (clean.images, clean.regressed, clean.improved, clean.other) == (879, 21, 4, None)
    assert "21 images changed from right to wrong, 4 from wrong to right" in report.summary.sentences[2].text
