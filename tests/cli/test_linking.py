"""``verify --report``: a number that the evidence does not hold makes the verification INVALID."""

from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from auditsvc.cli.report import with_report
from auditsvc.compliance.render import render
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.provenance.formats.release_layout import DECISION, EVIDENCE
from auditsvc.records import Verification
from tests.compliance import sample

VALID = Verification(verdict="VALID", as_of=datetime.datetime(2026, 11, 22, tzinfo=datetime.UTC), steps=())


@pytest.fixture
def attest(tmp_path: Path) -> Path:
    inputs = sample.released()
    (tmp_path / EVIDENCE).mkdir()
    (tmp_path / DECISION).write_bytes(inputs.decision.canonical())
    for run in inputs.evidence:
        (tmp_path / EVIDENCE / f"{run.key.check}.json").write_bytes(run.canonical())
    (tmp_path / "report.json").write_bytes(render(sample.report(), "json"))
    return tmp_path


def test_a_report_that_says_what_the_evidence_says_holds(attest: Path) -> None:
    found = with_report(VALID, attest, attest / "report.json")
    assert found.verdict == "VALID"
    assert found.steps[-1].ok and "numbers equal their evidence" in found.steps[-1].detail


def test_a_touched_number_makes_it_invalid_and_is_named(attest: Path) -> None:
    report = json.loads((attest / "report.json").read_bytes())
    report["slices"][0]["rows"][1]["candidate"]["value"] = 0.99
    (attest / "report.json").write_text(json.dumps(report))
    found = with_report(VALID, attest, attest / "report.json")
    assert (found.verdict, found.steps[-1].code) == ("INVALID", "REPORT_NUMBER")
    assert "slices[0].rows[1].candidate" in found.steps[-1].detail
    revoked = VALID.model_copy(update={"verdict": "REVOKED"})
    assert with_report(revoked, attest, attest / "report.json").verdict == "REVOKED"


def test_what_is_no_report_is_refused(attest: Path) -> None:
    (attest / "report.json").write_text("{}")
    with pytest.raises(InvalidInput, match="attached"):
        with_report(VALID, attest, attest / "report.json")
    with pytest.raises(Unavailable):
        with_report(VALID, attest, attest / "nothing.json")
