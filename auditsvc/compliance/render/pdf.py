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
from auditsvc.compliance.render.tables import render_json
from auditsvc.compliance.render.typst_context import example_name, picture_name, view
from auditsvc.compliance.report.report_model import Report
from auditsvc.errors import Unavailable
from auditsvc.settings import shipped

SVG_STYLE = (
    "text{font-size:11px;fill:#59606a;font-family:'Libertinus Serif'}.grid{stroke:#ddd8cd;stroke-width:1}"
    ".bar{stroke-width:2.5}.line{fill:none;stroke-width:2}.candidate{stroke:#00639c}.parent{stroke:#6a6f78}"
    ".line.parent{stroke-dasharray:4 3}.bar.parent{stroke-width:1.5}"
    ".mark.candidate{fill:#00639c}.mark.parent{fill:#ffffff;stroke-width:1.8}"
    ".mark.candidate.rejected,.mark.candidate.inconclusive{fill:#ffffff;stroke-width:2}"
    ".mark.candidate.inconclusive{stroke-dasharray:2 2}.diagonal{stroke:#59606a;stroke-dasharray:2 4}"
    ".ring{fill:none;stroke:#1d2126;stroke-width:1.5}"
)


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
    files |= {f"curve-{n}.svg": _svg(charts.curve_plot(curve)) for n, curve in enumerate(report.curves)}
    if report.reliability:
        files["reliability.svg"] = _svg(charts.reliability_plot(report.reliability))
    if report.frontier:
        files["frontier.svg"] = _svg(charts.frontier_plot(report.frontier))
    files["view.json"] = json.dumps(view(report), ensure_ascii=False).encode()
    files["report.json"] = render_json(report)
    files["main.typ"] = (shipped("templates") / "report.typ").read_bytes()
    return files


def _svg(drawn: str) -> bytes:
    named = drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return named.replace(">", f"><style>{SVG_STYLE}</style>", 1).encode()
