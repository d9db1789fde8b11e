"""The PDF is tagged, declared archivable, carries its data, and is the same each time."""

from __future__ import annotations

import dataclasses
import re
import shutil
import zlib
from pathlib import Path

import pytest

from auditsvc.compliance.render import render
from auditsvc.compliance.report.build import build_report
from auditsvc.compliance.report.report_model import Report
from tests.compliance import sample
from tests.reports import examples
from tests.reports.pdf_boxes import overflows, pages_of

pytest.importorskip("typst", reason="the extra 'pdf' is not installed")


def streams(pdf: bytes) -> list[bytes]:
    """Every compressed stream, unpacked."""
    found = []
    for match in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            found.append(zlib.decompress(match[1]))
        except zlib.error:
            continue
    return found


def test_the_same_report_gives_the_same_pdf() -> None:
    assert render(sample.report(), "pdf") == render(sample.report(), "pdf")


def test_the_pdf_declares_archive_and_accessibility_and_is_tagged() -> None:
    pdf = render(sample.report(), "pdf")
    everything = pdf + b"".join(streams(pdf))
    assert b"<pdfaid:part>3" in everything and b"<pdfuaid:part>1" in everything
    assert re.search(rb"/Marked\s+true", everything)
    assert re.search(rb"/Lang\s*\(en", everything)


def test_the_pdf_carries_the_report_as_data() -> None:
    report = sample.report()
    assert render(report, "json") in streams(render(report, "pdf"))


def test_every_picture_has_words_in_the_pdf() -> None:
    report = sample.report()
    pdf = render(report, "pdf")
    alts = re.findall(rb"/Alt\s*[(<]", pdf + b"".join(streams(pdf)))
    assert len(alts) >= len(report.pictures) + len(report.curves)


def test_every_font_is_inside_the_pdf() -> None:
    everything = b"".join((pdf := render(sample.report(), "pdf"), *streams(pdf)))
    fonts = re.findall(rb"/Type\s*/FontDescriptor(.*?)endobj", pdf, re.DOTALL) or re.findall(
        rb"/Type\s*/FontDescriptor.*?/FontName", everything, re.DOTALL
    )
    assert fonts
    assert len(re.findall(rb"/FontFile[23]?\s+\d+", everything)) >= len(set(fonts))


def test_the_pdf_says_what_it_is() -> None:
    everything = b"".join((pdf := render(sample.report(), "pdf"), *streams(pdf)))
    report = sample.report()
    assert f"{report.decision.headline}: {report.subject.model}".encode() in everything
    assert b"/StructTreeRoot" in everything and b"/TH" in everything and b"/Figure" in everything
    assert b"DisplayDocTitle true" in everything


def test_hostile_words_are_data_and_never_code() -> None:
    inputs = dataclasses.replace(sample.rejected(), submitter='#panic("x") $ *_', where={"#let a": "```` #include"})
    assert render(build_report(inputs, at=sample.EVENING), "pdf").startswith(b"%PDF-1.7")


@pytest.mark.parametrize("name", ["released", "rejected"])
def test_a_report_of_the_demo_has_twelve_pages_and_no_word_outside_its_page_or_over_another(
    name: str, tmp_path: Path
) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("needs pdftotext")
    report = Report.model_validate_json((examples.FOLDER / name / "report.json").read_bytes())
    (tmp_path / "report.pdf").write_bytes(render(report, "pdf"))
    pages = pages_of(tmp_path / "report.pdf")
    assert len(pages) <= 12
    starts = [" ".join(word.text for word in words) for _, _, words in pages]
    assert report.decision.headline in starts[0] and not any("ANNEX" in one for one in starts[:4])
    assert "What is due" in starts[3] and "ANNEX" in starts[4]
    assert overflows(tmp_path / "report.pdf") == []
    text = " ".join(starts)
    assert not re.findall(r"\b(?:doc|gov|sec|perf|ops|screen|robust|fairness)\.[a-z_]+", text)
