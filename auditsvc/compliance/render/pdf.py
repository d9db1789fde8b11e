"""The report as PDF: tagged, archivable, with the report's JSON attached, typeset by Typst (the extra ``pdf``).

Three pages decide, the fourth lists what is due, and an annex follows.  The template ``report.typ.j2`` reads the
report with the functions of the HTML page.  Whatever it prints becomes a Typst
string, so text reaches the page as data and never as Typst code.  The file declares PDF/A-3a and PDF/UA-1; Typst checks
what it can, such as alternative texts; no other validator has been run.  The same report gives the same bytes: only
bundled fonts are used, and the time is that of the report.

Reference: ISO 19005-3:2012 (PDF/A-3), ISO 14289-1:2014 (PDF/UA-1).
"""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from auditsvc.compliance.render.charts import Chart, standalone
from auditsvc.compliance.render.html import CHARTS, WORDS, template_environment
from auditsvc.compliance.render.tables import render_json
from auditsvc.compliance.report.report_model import Picture, Report
from auditsvc.errors import Unavailable
from auditsvc.resources import resource_dir

if TYPE_CHECKING:
    from markupsafe import Markup


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
        images = {_file_of("picture", n, one): one for n, one in enumerate(report.pictures[:5])}
        for file, image in images.items():
            (folder / file).write_bytes(base64.b64decode(image.data))
        (folder / "report.json").write_bytes(render_json(report))
        (folder / "main.typ").write_text(_page(report), encoding="utf-8")
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


def _page(report: Report) -> str:
    """The report in Typst."""
    from markupsafe import Markup

    page = template_environment(resource_dir("templates"), finalize=_literal)
    page.globals.update(
        **WORDS, **CHARTS, standalone=lambda chart: standalone(chart).decode(), file_of=_file_of, map_width=_width
    )
    page.filters["code"] = Markup
    return page.get_template("report.typ.j2").render(report=report)


def _width(chart: Chart) -> int:
    """The width of a chart in its own units."""
    return int(chart.svg.partition('viewBox="0 0 ')[2].split()[0])


def _literal(value: object) -> Markup:
    """A value as Typst code: a number as it is, everything else as a string that nothing in it can end."""
    from markupsafe import Markup

    if isinstance(value, Markup):
        return value
    if isinstance(value, int | float):
        return Markup(repr(value))  # noqa: S704 - digits
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return Markup(f'"{escaped}"')  # noqa: S704 - escaped above, for Typst and not for HTML


def _file_of(kind: str, number: int, image: Picture) -> str:
    """The file name of an image."""
    return f"{kind}-{number}.{'jpg' if image.media_type == 'image/jpeg' else 'png'}"
