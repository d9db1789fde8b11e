"""The report as PDF: tagged, archivable, with the report's JSON inside, by Typst (the extra ``pdf``).

Declared as PDF/A-3a and PDF/UA-1 by the engine, which refuses an image without alternative text; nobody has
certified it.  The same report gives the same bytes: bundled fonts only, and the report's own time.  Words reach
the page as data and never as Typst code.

Reference: ISO 19005-3:2012 (PDF/A-3), ISO 14289-1:2014 (PDF/UA-1).
"""

from __future__ import annotations

import base64
import json
import tempfile
from pathlib import Path

from auditsvc.compliance.render import charts
from auditsvc.compliance.render.charts import standalone
from auditsvc.compliance.render.tables import render_json
from auditsvc.compliance.render.typst_context import example_name, picture_name, view
from auditsvc.compliance.report.report_model import Report
from auditsvc.errors import Unavailable
from auditsvc.settings import shipped


def render_pdf(report: Report) -> bytes:
    """The report as PDF/A-3a and PDF/UA-1, with ``report.json`` attached.

    Raises:
        Unavailable: the extra ``pdf`` is not installed, or Typst refused the page.
    """
    try:
        import typst
    except ImportError as error:
        raise Unavailable("PDF needs Typst: pip install 'auditsvc[pdf]'") from error
    with tempfile.TemporaryDirectory(prefix="auditsvc-pdf-") as name:
        folder = Path(name)
        for file, data in _files(report).items():
            (folder / file).write_bytes(data)
        try:
            return typst.compile(
                folder / "main.typ",
                root=folder,
                format="pdf",
                ignore_system_fonts=True,
                pdf_standards=["a-3a", "ua-1"],
                timestamp=int(report.at.timestamp()),
            )
        except (typst.TypstError, RuntimeError) as error:
            raise Unavailable(f"Typst refused the report: {error}") from error


def _files(report: Report) -> dict[str, bytes]:
    """All that the template reads, by file name."""
    files = {picture_name(n, picture): base64.b64decode(picture.data) for n, picture in enumerate(report.pictures)}
    files |= {example_name(n, one): base64.b64decode(one.data) for n, one in enumerate(report.examples)}
    files |= {f"curve-{n}.svg": standalone(charts.curve_chart(curve)) for n, curve in enumerate(report.curves)}
    if report.reliability:
        files["reliability.svg"] = standalone(charts.reliability_chart(report.reliability))
    if report.frontier:
        files["frontier.svg"] = standalone(charts.frontier_chart(report.frontier))
    files["view.json"] = json.dumps(view(report), ensure_ascii=False).encode()
    files["report.json"] = render_json(report)
    files["main.typ"] = (shipped("templates") / "report.typ").read_bytes()
    return files
