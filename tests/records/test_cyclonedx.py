"""The bill of materials is CycloneDX, with readings per slice and the parent as an ancestor."""

from __future__ import annotations

import json

import pytest

from auditsvc.compliance.assessment.assessment_context import ReportInputs
from auditsvc.compliance.render import render
from auditsvc.compliance.report.build import build_report
from auditsvc.records.cyclonedx import bill_of_materials
from tests.provenance.sample import AT, sealing


def document() -> dict:
    made = sealing()
    return bill_of_materials(made.candidate, made.version, made.parent, made.evidence, made.decision)


def test_the_schema_of_cyclonedx_accepts_it() -> None:
    schema = pytest.importorskip("cyclonedx.schema", reason="pip install 'cyclonedx-python-lib[validation]'")
    validation = pytest.importorskip("cyclonedx.validation.json")
    validator = validation.JsonStrictValidator(schema.SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(document())) is None
    bad = document()
    bad["metadata"]["component"]["modelCard"]["bogus"] = 1
    assert validator.validate_str(json.dumps(bad)) is not None


def test_every_reading_stands_in_it_with_its_interval() -> None:
    card = document()["metadata"]["component"]["modelCard"]
    assert card["quantitativeAnalysis"]["performanceMetrics"][1] == {
        "type": "accuracy/score",
        "value": "0.9",
        "slice": "gender=F",
        "confidenceInterval": {"lowerBound": "0.85", "upperBound": "0.9500000000000001"},
    }
    assert len(card["quantitativeAnalysis"]["performanceMetrics"]) == 4


def test_the_parent_is_an_ancestor_with_its_files() -> None:
    made = sealing()
    ancestor = document()["metadata"]["component"]["pedigree"]["ancestors"][0]
    assert ancestor["components"][0]["hashes"][0]["content"] == made.parent.files[0].digest.removeprefix("sha256:")


def test_the_same_records_give_the_same_document() -> None:
    assert document() == document()


def test_the_report_prints_the_document_that_is_signed() -> None:
    """One candidate and decision, one serial number: two documents with two numbers can't be told to be one model."""
    made = sealing()
    inputs = ReportInputs(
        model=made.model,
        version=made.version,
        candidate=made.candidate,
        parent=made.parent,
        policy=made.policy,
        decision=made.decision,
        evidence=tuple(reversed(made.evidence)),
        approvals=made.approvals,
        submitter=made.submitter,
    )
    printed = json.loads(render(build_report(inputs, at=AT), "bom"))
    assert printed == document()
    assert printed["serialNumber"].startswith("urn:uuid:")
