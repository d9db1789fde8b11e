"""The report as one self-contained HTML page without scripts, fonts or external files, and as PDF.

The templates in ``reports/templates`` read the ``Report`` itself; every function that they call is in ``WORDS`` or
``CHARTS``, for HTML and for paper alike.

The PDF is tagged, archivable, with the report's JSON attached, typeset by Typst (the extra ``pdf``): three pages
decide, the fourth lists what is due, and an annex follows.  Whatever ``report.typ.j2`` prints becomes a Typst string,
so text reaches the page as data and never as Typst code.  The file declares PDF/A-3a and PDF/UA-1; Typst checks what it
can, such as alternative texts; no other validator has been run.  The same report gives the same bytes: only bundled
fonts are used, and the time is that of the report.

Reference: ISO 19005-3:2012 (PDF/A-3), ISO 14289-1:2014 (PDF/UA-1).
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditsvc.compliance.render import charts
from auditsvc.compliance.render.charts import Chart, standalone
from auditsvc.compliance.render.tables import render_json
from auditsvc.compliance.report import wording
from auditsvc.compliance.report.report_model import Picture, Report, SliceRow, SliceTable
from auditsvc.compliance.report.sections import broken_cells
from auditsvc.compliance.report.wording import Counts
from auditsvc.errors import Unavailable
from auditsvc.resources import resource_dir

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def template_environment(folder: Path, **options: Any) -> Environment:
    """The environment of the templates in a folder, with escaping; ``options`` are Jinja's."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


def render_html(report: Report) -> str:
    """The report as one page that needs no script, can be printed, and supports light and dark mode."""
    from markupsafe import Markup

    folder = resource_dir("templates")
    page = template_environment(folder)
    page.globals.update(
        **WORDS,
        known={row.record for row in report.evidence},
        style=Markup((folder / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our file
        **{name: _marked(draw) for name, draw in CHARTS.items()},
        axis_row=lambda axis: Markup(charts.axis_row(axis)),  # noqa: S704 - numbers only
    )
    return page.get_template("report.html.j2").render(report=report)


def _marked(draw: Callable[..., charts.Chart | None]) -> Callable[..., Any]:
    """The chart as markup, empty without one; charts escape every text."""
    from markupsafe import Markup

    return lambda *given: Markup(drawn.svg if (drawn := draw(*given)) else "")  # noqa: S704 - see above


def short(digest: str | None) -> str:
    """The first twelve digits of a digest, as printed and linked; empty without one."""
    return (digest or "").removeprefix("sha256:")[:12]


def segments(counts: Counts) -> list[tuple[str, int]]:
    """The segments of the counts bar that are not empty, violated first."""
    order = ("violated", "unknown", "waived", "met")
    return [(name, number) for name in order if (number := getattr(counts, name))]


def level(report: Report) -> str:
    """The confidence level of the intervals in per cent."""
    levels = {f"{(1 - 2 * row.alpha) * 100:.3g}" for row in report.evidence}
    return " or ".join(sorted(levels)) or "90"


MANY = 40
"""A table with more groups than this shows only the weakest; the data files contain all."""


def shown(table: SliceTable) -> tuple[SliceRow, ...]:
    """The rows to print: all, or the first and those with the lowest interval ends."""
    if len(table.rows) <= MANY:
        return table.rows
    rest = sorted(table.rows[1:], key=lambda row: row.candidate.low if row.candidate.state == "measured" else -1.0)
    return (*table.rows[:1], *rest[: MANY // 2])


def _scale(table: SliceTable) -> Any:
    return charts.score_axis(figure for row in table.rows for figure in (row.parent, row.candidate))


WORDS: dict[str, Any] = {
    "broken": lambda report: broken_cells(report.rules, report.slices),
    "amount": wording.amount,
    "change_words": wording.change_words,
    "value_text": wording.value_text,
    "interval_text": wording.interval_text,
    "many": MANY,
    "shown": shown,
    "slice_words": wording.slice_words,
    "day": wording.day,
    "minute": wording.minute,
    "plural": wording.plural,
    "measure_words": wording.MEASURE_WORDS,
    "short": short,
    "segments": segments,
    "level": level,
    "scale": _scale,
    "status_words": lambda status: status.replace("_", " "),
    "plain": wording.plain,
}
"""Functions that the templates call for text."""

CHARTS: dict[str, Callable[..., charts.Chart | None]] = {
    "heat_map": charts.heat_map,
    "interval_row": charts.interval_row,
    "curve_chart": charts.curve_chart,
    "reliability_chart": charts.reliability_chart,
    "frontier_chart": charts.frontier_chart,
}
"""Functions that the templates call for charts."""


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
