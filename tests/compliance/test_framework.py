"""Frameworks are data: complete, dated by placement, and refused when they do not fit."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from auditsvc.compliance.assessment.framework import (
    WORST_FIRST,
    Framework,
    Status,
    load_frameworks,
    load_questionnaire,
    load_vocabulary,
)
from auditsvc.compliance.assessment.rules import RULES
from auditsvc.errors import InvalidInput
from auditsvc.resources import resource_dir

POLICIES = resource_dir("policies")
FRAMEWORKS = {framework.framework: framework for framework in load_frameworks(POLICIES)}


def test_nist_has_its_72_rows_in_four_functions() -> None:
    rows = FRAMEWORKS["nist-ai-rmf-1.0"].requirements
    functions = Counter(row.id.split()[0] for row in rows)
    assert functions == {"GOVERN": 19, "MAP": 18, "MEASURE": 22, "MANAGE": 13}
    assert len(FRAMEWORKS["nist-ai-rmf-1.0"].groups) == 19


def test_the_eu_act_iso_and_the_threats_have_all_their_rows() -> None:
    counts = {name: len(framework.requirements) for name, framework in FRAMEWORKS.items()}
    assert counts == {"eu-ai-act-2024-1689": 245, "iso-42001-annex-a": 38, "nist-ai-rmf-1.0": 72, "threats": 52}


def test_no_date_is_written_at_a_row_of_the_eu_act() -> None:
    act = FRAMEWORKS["eu-ai-act-2024-1689"]
    assert all(row.placement for row in act.requirements)
    raw = yaml.safe_load((POLICIES / "frameworks" / "eu-ai-act-2024-1689.yaml").read_text())
    assert not [row["id"] for row in raw["requirements"] if "applies_from" in row]


def test_high_risk_duties_start_when_the_amended_act_says() -> None:
    dates = FRAMEWORKS["eu-ai-act-2024-1689"].placements["ch3s123"].dates
    assert [start.date for start in dates] == [datetime.date(2027, 12, 2), datetime.date(2028, 8, 2)]


@pytest.mark.parametrize("placement", ["ch3s5", "ch9"])
def test_a_disputed_start_has_both_readings(placement: str) -> None:
    found = FRAMEWORKS["eu-ai-act-2024-1689"].placements[placement]
    assert found.disputed
    assert [start.date for start in found.dates] == [datetime.date(2026, 8, 2), datetime.date(2027, 12, 2)]


def test_the_ownership_watermark_raises_no_row_of_nist_or_the_eu_act() -> None:
    for name in ("nist-ai-rmf-1.0", "eu-ai-act-2024-1689"):
        assert not [row.id for row in FRAMEWORKS[name].requirements if "ip.watermark" in row.evidence]


def test_data_that_nobody_checked_for_90_days_is_stale() -> None:
    framework = FRAMEWORKS["nist-ai-rmf-1.0"]
    assert not framework.stale(framework.data_checked + datetime.timedelta(days=90))
    assert framework.stale(framework.data_checked + datetime.timedelta(days=91))


def test_code_and_vocabulary_know_the_same_rules_and_statuses() -> None:
    words = load_vocabulary(POLICIES)
    assert set(words.rules) == set(RULES)
    assert words.worst_first == WORST_FIRST
    assert set(words.statuses) == set(Status.__args__)  # type: ignore[attr-defined]


def test_every_question_with_a_row_names_a_row_of_the_act() -> None:
    ids = {row.id for row in FRAMEWORKS["eu-ai-act-2024-1689"].requirements}
    asked = {question.row for question in load_questionnaire(POLICIES).questions if question.row}
    assert asked <= ids


def test_no_framework_says_that_anything_is_compliant() -> None:
    for path in (POLICIES / "frameworks").glob("*.yaml"):
        assert not re.search(r"\b(compliant|certified|guaranteed)\b", path.read_text(), re.IGNORECASE), path.name


def test_a_broken_framework_is_refused_with_every_fault(tmp_path: Path) -> None:
    folder = tmp_path / "frameworks"
    folder.mkdir()
    (folder / "_vocabulary.yaml").write_text((POLICIES / "frameworks" / "_vocabulary.yaml").read_text())
    raw = yaml.safe_load((POLICIES / "frameworks" / "iso-42001-annex-a.yaml").read_text())
    raw["requirements"][5]["evidence"] = ["doc.unheard_of"]
    (folder / "kinds.yaml").write_text(yaml.safe_dump(raw))
    del raw["name"]
    (folder / "nameless.yaml").write_text(yaml.safe_dump(raw))
    with pytest.raises(InvalidInput) as caught:
        load_frameworks(tmp_path)
    assert len(caught.value.reasons) == 2


def test_two_rows_with_one_key_are_refused() -> None:
    raw = FRAMEWORKS["threats"].model_dump()
    raw["requirements"] = [raw["requirements"][0]] * 2
    with pytest.raises(ValueError, match="same key"):
        Framework.model_validate(raw)
