"""Each form of a report is valid for the programs that read it, and the same each time."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from auditsvc.compliance.render import FORMATS, render
from auditsvc.compliance.render.tables import render_oscal
from auditsvc.compliance.report.report_model import Report
from auditsvc.errors import InvalidInput
from tests.compliance import sample
from tests.compliance.test_lint import changed

SCHEMAS = Path(__file__).parent / "schemas"
EVERY = ["released", "rejected"]


def oscal_faults(name: str, data: bytes) -> list[str]:
    """What NIST's schema says; it needs Unicode classes that Python's ``re`` does not know."""
    jsonschema, regex = pytest.importorskip("jsonschema"), pytest.importorskip("regex")
    kinds = {"catalog": "catalog", "assessment": "assessment-results", "plan": "poam"}
    schema = json.loads((SCHEMAS / f"oscal_{kinds[name.partition('-')[0]]}_schema.json").read_text())

    def pattern(_validator: object, wanted: str, found: object, _schema: object) -> object:
        if isinstance(found, str) and not regex.search(wanted, found):
            yield jsonschema.ValidationError(f"{found!r} does not match {wanted}")

    checker = jsonschema.validators.extend(jsonschema.Draft7Validator, {"pattern": pattern})(schema)
    return [f"{list(error.path)}: {error.message[:200]}" for error in checker.iter_errors(json.loads(data))]


@pytest.mark.parametrize("name", EVERY)
def test_the_oscal_bundle_fits_the_schemas_of_nist(name: str) -> None:
    found = render_oscal(sample.report(name))
    assert [fault for file, data in found.items() for fault in oscal_faults(file, data)] == []


def test_a_broken_oscal_document_does_not_fit() -> None:
    document = json.loads(render_oscal(sample.report())["assessment-results.json"])
    del document["assessment-results"]["import-ap"]
    assert oscal_faults("assessment-results.json", json.dumps(document).encode())


def test_only_supported_rows_are_satisfied_in_oscal() -> None:
    report = sample.report()
    results = json.loads(render_oscal(report)["assessment-results.json"])["assessment-results"]["results"]
    satisfied = {
        finding["target"]["target-id"].removesuffix("_obj")
        for result in results
        for finding in result.get("findings", ())
        if finding["target"]["status"]["state"] == "satisfied"
    }
    assert satisfied == {row.key for part in report.frameworks for row in part.rows if row.status == "supported"}


@pytest.mark.parametrize("version", ["1.6", "1.7"])
def test_the_bill_of_materials_fits_cyclonedx(version: str) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    schema = pytest.importorskip("cyclonedx.schema")
    bom = json.loads(render(sample.report(), "bom"))
    bom |= {"specVersion": version, "$schema": bom["$schema"].replace("1.6", version)}
    checker = validation.JsonStrictValidator(schema.SchemaVersion.from_version(version))
    assert checker.validate_str(json.dumps(bom)) is None


def test_the_parent_is_the_ancestor_in_the_bill_of_materials() -> None:
    report = sample.report()
    model = json.loads(render(report, "bom"))["metadata"]["component"]
    assert [one["bom-ref"] for one in model["pedigree"]["ancestors"]] == [report.subject.parent]


def test_json_reads_back_as_the_same_report() -> None:
    assert Report.model_validate_json(render(sample.report(), "json")) == sample.report()


def test_csv_has_a_line_for_each_requirement() -> None:
    report = sample.report()
    lines = list(csv.DictReader(io.StringIO(render(report, "assessments-csv").decode())))
    assert len(lines) == sum(len(part.rows) for part in report.frameworks)
    assert {line["status"] for line in lines} >= {"supported", "missing", "not_yet_due", "out_of_scope"}


def test_csv_keeps_formulas_as_text() -> None:
    report = sample.report()
    evil = changed(report, "frameworks", 0, "rows", 0, "title", to='=HYPERLINK("http://x")')
    first = next(csv.DictReader(io.StringIO(render(evil, "assessments-csv").decode())))
    assert first["title"].startswith("'=")


@pytest.mark.parametrize("name", EVERY)
def test_junit_fails_where_a_blocking_rule_does(name: str) -> None:
    report = sample.report(name)
    suites = ElementTree.fromstring(render(report, "junit"))
    failed = {suite.get("name") for suite in suites if suite.get("failures") != "0"}
    assert failed == ({"accuracy-loss-per-group"} if name == "rejected" else set())
    passed = sum(len(case.findall("*")) == 1 for case in suites.iter("testcase"))
    assert passed == report.summary.counts.met


def test_the_model_card_has_front_matter_that_hugging_face_reads() -> None:
    _, front, body = render(sample.report(), "card").decode().split("---\n", 2)
    fields = yaml.safe_load(front)
    assert fields["pipeline_tag"] == "image-classification"
    assert fields["model-index"][0]["results"][0]["metrics"][0]["value"] == pytest.approx(0.942)
    assert "gender=F" in body


def test_the_annex_iv_draft_lists_what_is_missing_and_the_annex_v_form_is_not_signed() -> None:
    draft, form = (render(sample.report(), name).decode() for name in ("annex-iv", "annex-v"))
    assert "## To complete outside this tool" in draft and "- [ ] Annex IV(2)(g)" in draft
    signature = form[form.index("## 8.") :]
    assert "To be completed by the provider" in signature
    assert not any(person in signature for person in ("rosa", "otto", "mia"))


def test_words_from_outside_stay_words_in_markdown() -> None:
    evil = changed(sample.report(), "subject", "intended_use", to="x | y <script> [a](b) `c`\n# d")
    page = render(evil, "card").decode()
    assert "<script>" not in page and "\n# d" not in page and "[a](b)" not in page


@pytest.mark.parametrize("form", [name for name in FORMATS if name != "pdf"])
def test_the_same_report_gives_the_same_bytes(form: str) -> None:
    assert render(sample.report(), form) == render(Report.model_validate_json(render(sample.report(), "json")), form)


def test_an_unknown_format_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InvalidInput, match="html, pdf, json"):
        render(sample.report(), "docx")


def test_the_oscal_zip_holds_the_bundle() -> None:
    with zipfile.ZipFile(io.BytesIO(render(sample.report(), "oscal"))) as bundle:
        assert {name: bundle.read(name) for name in bundle.namelist()} == render_oscal(sample.report())
