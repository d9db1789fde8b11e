"""The report as one self-contained HTML page without scripts, fonts or external files.

The templates in ``reports/templates`` read the ``Report`` itself; every function that they call is in ``WORDS`` or
``CHARTS``, for HTML and for paper alike.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auditsvc.compliance.render import charts
from auditsvc.compliance.report import wording
from auditsvc.compliance.report.report_model import Report, SliceRow, SliceTable
from auditsvc.compliance.report.wording import Counts
from auditsvc.resources import resource_dir

if TYPE_CHECKING:
    from jinja2 import Environment


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


def broken(report: Report) -> set[tuple[str, str]]:
    """Condition and slice of every loss that violates a blocking rule."""
    losses = {f"drop.{table.condition}": table.condition for table in report.slices}
    return {
        (losses[row.metric], row.slice)
        for rule in report.rules
        for row in rule.rows
        if row.status == "violated" and rule.severity == "block" and row.metric in losses
    }


WORDS: dict[str, Any] = {
    "broken": broken,
    "amount": wording.amount,
    "change_words": wording.change_words,
    "value_text": wording.value_text,
    "interval_text": wording.interval_text,
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
