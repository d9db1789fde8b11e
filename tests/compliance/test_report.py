"""The report says what the records say, and nothing more."""

from __future__ import annotations

import dataclasses
import datetime
import re

import pytest

from auditsvc.compliance.render.html import render_html
from auditsvc.compliance.report.build import build_report
from auditsvc.compliance.report.report_model import Report
from auditsvc.errors import InvalidInput
from auditsvc.records import Candidate, Decision, Evidence, Measured, Policy, Reading, Unmeasured
from tests.compliance import sample

AT = sample.EVENING


def test_the_same_records_give_the_same_bytes() -> None:
    first, second = (render_html(build_report(sample.released(), at=AT)) for _ in range(2))
    assert first == second


def test_records_read_back_from_the_ledger_give_the_same_bytes() -> None:
    inputs = sample.released()
    stored = dataclasses.replace(
        inputs,
        candidate=Candidate.parse(inputs.candidate.canonical()),
        evidence=tuple(Evidence.parse(run.canonical()) for run in inputs.evidence),
        decision=Decision.parse(inputs.decision.canonical()),
        policy=Policy.parse(inputs.policy.canonical()),
    )
    assert render_html(build_report(stored, at=AT)) == render_html(build_report(inputs, at=AT))


def test_the_report_is_plain_data_that_reads_back() -> None:
    report = build_report(sample.released(), at=AT)
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_the_weakest_group_is_named_with_its_number_interval_and_size() -> None:
    report = build_report(sample.rejected(), at=AT)
    found = next(r.outcome for r in sample.readings("clean") if r.metric == "score.clean" and r.slice == "gender=F")
    assert isinstance(found, Measured)
    text = report.summary.sentences[1].text
    assert "gender=F, 157 images" in text
    assert all(f"{share * 100:.1f}" in text for share in (found.value, found.low, found.high))


def test_a_group_too_small_is_not_tested_and_never_drawn() -> None:
    report = build_report(sample.rejected(), at=AT)
    assert any("region=Territory (8 images)" in line for line in report.summary.not_tested)
    row = next(row for row in report.slices[0].rows if row.slice == "region=Territory")
    assert row.candidate.state == "unmeasured"


def test_topics_that_no_check_measured_are_listed_as_not_tested() -> None:
    line = build_report(sample.rejected(), at=AT).summary.not_tested[0]
    assert "back doors" in line and "deliberate attacks" not in line


def test_a_check_that_measured_nothing_does_not_cover_its_topic() -> None:
    inputs = sample.rejected()
    blind = tuple(
        run.model_copy(
            update={
                "readings": tuple(
                    Reading(metric=r.metric, slice=r.slice, outcome=Unmeasured(reason="no gradient"))
                    for r in run.readings
                )
            }
        )
        if run.key.check == "adversarial"
        else run
        for run in inputs.evidence
    )
    decided = inputs.decision.model_copy(update={"evidence": tuple(run.digest for run in blind)})
    report = build_report(dataclasses.replace(inputs, evidence=blind, decision=decided), at=AT)
    assert "deliberate attacks" in report.summary.not_tested[0]


def test_a_waived_line_is_counted_apart_and_never_as_met() -> None:
    plain, waived = (build_report(inputs, at=AT).summary.counts for inputs in (sample.rejected(), sample.released()))
    assert waived.waived == 3
    assert waived.met == plain.met
    assert waived.violated == plain.violated - 3


def test_a_decision_without_its_approvals_waits_for_them() -> None:
    trial = dataclasses.replace(sample.released(), approvals=(), release=None, verification=None)
    binding = trial.decision.model_copy(update={"terms": trial.policy.digest})
    report = build_report(dataclasses.replace(trial, decision=binding), at=AT)
    assert report.decision.headline == "Waiting for approval"
    assert "2 of 2 approvals are missing" in report.decision.explanation
    report = build_report(trial, at=AT)
    assert report.decision.headline == "Trial: approved"
    assert report.decision.notes[0].startswith("A trial: no terms bind this decision")


def test_evidence_past_its_time_is_said_to_be_expired() -> None:
    late = AT + datetime.timedelta(days=91)
    assert all(row.expired for row in build_report(sample.released(), at=late).evidence)
    assert "expired on" in render_html(build_report(sample.released(), at=late))


def test_records_about_something_else_are_refused_all_at_once() -> None:
    inputs, other = sample.released(), sample.candidate(0.9)
    with pytest.raises(InvalidInput) as caught:
        build_report(dataclasses.replace(inputs, candidate=other), at=AT)
    assert len(caught.value.reasons) >= 2 + len(inputs.evidence)


def test_missing_evidence_of_the_decision_is_refused() -> None:
    inputs = sample.rejected()
    with pytest.raises(InvalidInput, match="based on"):
        build_report(dataclasses.replace(inputs, evidence=inputs.evidence[1:]), at=AT)


@pytest.mark.parametrize("inputs", [sample.rejected(), sample.released()], ids=["rejected", "released"])
def test_every_link_of_the_page_leads_somewhere(inputs: object) -> None:
    page = render_html(build_report(inputs, at=AT))  # type: ignore[arg-type]
    targets = set(re.findall(r' id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= targets


def test_the_page_is_self_contained_and_runs_no_script() -> None:
    page = render_html(build_report(sample.released(), at=AT))
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?!data:image/|#)', page)
    assert "url(" not in page


def test_hostile_names_stay_text() -> None:
    inputs = dataclasses.replace(sample.rejected(), submitter="<script>alert(1)</script>", where={'"><img>': "<b>"})
    page = render_html(build_report(inputs, at=AT))
    assert "<script" not in page and '"><img>' not in page


def test_the_first_page_is_short() -> None:
    page = render_html(build_report(sample.rejected(), at=AT))
    first = page[page.index('<section class="first"') : page.index("<nav")]
    message = re.sub(r"<svg.*?</svg>|<[^>]+>", " ", first, flags=re.DOTALL).split()
    assert len(message) < 300


def test_a_group_that_the_rule_does_not_judge_is_not_called_the_weakest() -> None:
    inputs = sample.rejected()
    odd = "region=Territory"
    tiny = Measured(value=0.1, low=0.01, high=0.5, images=8)
    run = inputs.evidence[0]
    seen = tuple(r.model_copy(update={"outcome": tiny}) if r.slice == odd else r for r in run.readings)
    measured = run.model_copy(update={"readings": seen})
    lines = tuple(
        line.model_copy(update={"evidence": measured.digest}) if line.evidence == run.digest else line
        for line in inputs.decision.judgements
    )
    evidence = (measured, *inputs.evidence[1:])
    decided = inputs.decision.model_copy(
        update={"evidence": tuple(one.digest for one in evidence), "judgements": lines}
    )
    report = build_report(dataclasses.replace(inputs, evidence=evidence, decision=decided), at=AT)
    assert "gender=F" in report.summary.sentences[1].text
    assert any(f"{odd} (8 images)" in line for line in report.summary.not_tested)


def test_unchanged_images_come_first_and_severities_in_order() -> None:
    tables = [table.condition for table in build_report(sample.rejected(), at=AT).slices]
    assert tables[0] == "clean"
    assert [name for name in tables if name.startswith("exposure")] == [
        "exposure@-4EV",
        "exposure@-2EV",
        "exposure@2EV",
    ]
