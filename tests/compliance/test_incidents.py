"""The clock of incidents: late is contradicted, silence needs a watch, and a watch supports nothing."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
from pydantic import ValidationError

from auditsvc.compliance.assessment.attestations import Incident, Watch, current
from auditsvc.compliance.assessment.framework import load_frameworks
from auditsvc.compliance.assessment.rules import assess
from auditsvc.compliance.report.build import build_report
from auditsvc.resources import resource_dir
from tests.compliance import sample
from tests.compliance.lint import lint_report

TODAY = sample.EVENING.date()
EU = next(one for one in load_frameworks(resource_dir("policies")) if one.framework == "eu-ai-act-2024-1689")


def incident(harm: str = "health", days: int = 5, told: int | None = 1, **more: object) -> Incident:
    """Known so many days ago, reported so many days later."""
    aware = sample.EVENING - datetime.timedelta(days=days)
    reported = None if told is None else aware + datetime.timedelta(days=told)
    fields = {"model": "face-attribute", "harm": harm, "words": "A test.", "aware": aware, "reported": reported,
              "authority": "an authority", "person": "mia.engineer", "at": sample.MORNING}  # fmt: skip
    return Incident.model_validate(fields | more)


def watch(until: datetime.date = TODAY) -> Watch:
    return Watch(model="face-attribute", since=datetime.date(2026, 1, 1), until=until, words="Mail and phone read.",
                 person="rosa.risk", at=sample.EVENING)  # fmt: skip


def clocks(*incidents: Incident, watches: tuple[Watch, ...] = ()) -> dict[str, str]:
    context = dataclasses.replace(sample.paperwork(sample.released()), incidents=incidents, watches=watches)
    rows = {row.key: row for row in assess(EU, context)}
    return {key: rows[key].evidence_status for key in ("art73.2", "art73.3", "art73.4")}


def test_silence_is_missing_until_somebody_says_that_they_watched():
    assert set(clocks().values()) == {"missing"}
    assert set(clocks(watches=(watch(),)).values()) == {"not_applicable"}
    assert set(clocks(watches=(watch(datetime.date(2026, 9, 1)),)).values()) == {"stale"}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (incident("health", 30, 14), ("supported", "not_applicable", "not_applicable")),
        (incident("health", 30, 16), ("contradicted", "not_applicable", "not_applicable")),
        (incident("widespread", 30, 3), ("supported", "contradicted", "not_applicable")),
        (incident("critical infrastructure", 30, 2), ("supported", "supported", "not_applicable")),
        (incident("death", 30, 11), ("supported", "not_applicable", "contradicted")),
        (incident("death", 9, None), ("insufficient", "not_applicable", "insufficient")),
        (incident("death", 12, None), ("insufficient", "not_applicable", "contradicted")),
    ],
)
def test_each_clock_has_its_own_limit(found, expected):
    assert tuple(clocks(found).values()) == expected


def test_a_later_record_of_the_same_incident_replaces_the_earlier_one():
    first = incident("death", 5, None)
    later = first.model_copy(update={"reported": first.aware + datetime.timedelta(days=1), "at": sample.EVENING})
    assert current((later, first)) == (later,)
    assert clocks(first, later)["art73.4"] == "supported"


def test_a_report_before_anybody_knew_or_to_nobody_is_refused():
    with pytest.raises(ValidationError, match="name the authority"):
        incident(told=-1)
    with pytest.raises(ValidationError, match="name the authority"):
        incident(authority=" ")


def test_incidents_and_watches_stand_in_the_report_with_their_records():
    context = dataclasses.replace(
        sample.paperwork(sample.released()), incidents=(incident("death", 5, None),), watches=(watch(),)
    )
    report = build_report(sample.released(), at=context.at, context=context, frameworks=(EU,))
    assert {"incident", "incident watch"} <= {paper.kind for paper in report.statements}
    assert any("not reported yet" in paper.title for paper in report.statements)
    assert lint_report(report) == ()
