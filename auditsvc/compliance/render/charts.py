"""Every chart of the product, as SVG text with a text alternative: pure functions, data in, ``Chart`` out.

Used by the HTML and PDF reports, by the page of a candidate and by ``frontier.svg`` of a compression sweep.  Colours
come from CSS classes, so they follow light mode, dark mode and print; ``standalone`` embeds a style sheet for a file
of its own.  No information is carried by colour alone: the candidate is a filled circle on a solid line, the parent
an open diamond on a dashed line.  The numbers are also given in a table next to each chart.

Reference: W3C (2023), "Web Content Accessibility Guidelines 2.2", success criteria 1.1.1 and 1.4.1.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from auditsvc.compliance.report.report_model import (
    ConfidenceBin,
    Curve,
    FrontierPoint,
    Reliability,
    SliceRow,
    SliceTable,
)
from auditsvc.compliance.report.wording import (
    Figure,
    Gap,
    Number,
    full_text,
    plain,
    plural,
    short_text,
    slice_words,
    value_text,
)
from auditsvc.records import OVERALL


@dataclass(frozen=True)
class Chart:
    """An SVG element and the same information as text, for readers who can't see it."""

    svg: str
    text: str


@dataclass(frozen=True)
class Axis:
    """A linear scale from ``low`` to ``high`` with its title; values outside are drawn at the edge."""

    low: float
    high: float
    title: str = ""

    def at(self, value: float) -> float:
        """The position of a value, from 0 to 100."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> tuple[float, ...]:
        """Round values on the axis, at most six."""
        step = _step(self.high - self.low)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return tuple(round(n * step, 12) for n in range(first, last + 1))


def _step(span: float) -> float:
    """The smallest of 1, 2, 2.5 and 5 times a power of ten that divides a span into at most five parts."""
    power = 10.0 ** math.floor(math.log10(span / 5))
    return next(n * power for n in (1, 2, 2.5, 5, 10) if span / (n * power) <= 5.001)


def _rounded(low: float, high: float, title: str) -> Axis:
    """An axis that begins and ends at a tick."""
    if high <= low:
        low, high = low - (abs(low) or 1.0) / 2, high + (abs(high) or 1.0) / 2
    step = _step(high - low)
    return Axis(math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step, title)


def score_axis(figures: Iterable[Figure]) -> Axis:
    """The axis of scores: from a round value below the lowest interval to 1; it need not begin at 0."""
    lows = [figure.low for figure in figures if isinstance(figure, Number)]
    low = math.floor(min(lows, default=0.0) * 10) / 10
    return Axis(min(max(low, 0.0), 0.9), 1.0)


# Intervals in the rows of a table.  Positions are percentages, so a row is as wide as its cell.


def interval_row(parent: Figure, candidate: Figure, axis: Axis, label: str) -> Chart:
    """The intervals of the parent (above) and the candidate; what was not measured is not drawn."""
    parts = [_line("grid", f"{axis.at(tick)}%", f"{axis.at(tick)}%", 0, 34) for tick in axis.ticks()]
    if isinstance(parent, Number):
        parts.append(_line("bar parent", f"{axis.at(parent.low)}%", f"{axis.at(parent.high)}%", 11, 11))
        diamond = '<path class="mark parent" d="M0-5 5 0 0 5-5 0z"/>'
        parts.append(f'<svg x="{axis.at(parent.value)}%" y="11" overflow="visible">{diamond}</svg>')
    if isinstance(candidate, Number):
        parts.append(_line("bar candidate", f"{axis.at(candidate.low)}%", f"{axis.at(candidate.high)}%", 24, 24))
        parts.append(f'<circle class="mark candidate" cx="{axis.at(candidate.value)}%" cy="24" r="4.5"/>')
    else:
        parts.append('<text class="none" x="0" y="22">not measured</text>')
    text = f"{label}: parent {full_text(parent)}, candidate {full_text(candidate)}"
    return _chart(text, parts, 'class="interval" height="34" width="100%"')


def axis_row(axis: Axis) -> str:
    """The tick labels, in per cent, above a column of interval rows."""
    labels = []
    for tick in axis.ticks():
        anchor = "start" if axis.at(tick) < 4 else "end" if axis.at(tick) > 96 else "middle"
        labels.append(f'<text x="{axis.at(tick)}%" y="12" text-anchor="{anchor}">{tick * 100:g}</text>')
    return f'<svg class="axis" aria-hidden="true" height="16" width="100%">{"".join(labels)}</svg>'


MIN_IMAGES = 30
"""Intervals of fewer images do not stretch the axis of losses: next to them no other could be seen."""


def loss_axis(losses: Iterable[Number]) -> Axis:
    """The axis of losses: it holds 0 and every interval of at least ``MIN_IMAGES`` images, with a margin of 4 %."""
    every = list(losses)
    enough = [loss for loss in every if loss.images >= MIN_IMAGES] or every
    low = min([0.0, *(loss.low for loss in enough)])
    high = max([0.01, *(loss.high for loss in enough)])
    margin = (high - low) * 0.04
    return Axis(low - margin, high + margin)


def loss_row(loss: Number, axis: Axis, label: str) -> Chart:
    """The interval of one loss with a line at 0; dashed where it continues outside the chart."""
    cut = loss.low < axis.low or loss.high > axis.high
    parts = [
        _line("zero", f"{axis.at(0)}%", f"{axis.at(0)}%", 0, 14),
        _line("range cut" if cut else "range", f"{axis.at(loss.low)}%", f"{axis.at(loss.high)}%", 7, 7),
        f'<circle cx="{axis.at(loss.value)}%" cy="7" r="4"/>',
    ]
    kind = "interval worse" if loss.low > 0 else "interval"
    return _chart(f"{label}: loss {full_text(loss)}", parts, f'class="{kind}" width="240" height="14"')


# The map of losses: one row for each slice, one column for each condition.

MAP_ROWS, MAP_COLUMNS = 16, 14
"""Most slices and conditions on a map: the ones with the largest certain losses; the tables have all."""

CELL, ROW, NAMES = 40, 20, 150
_LEVELS = (0.005, 0.01, 0.02, 0.05, 0.1)
"""Losses from which the shade of a cell gets darker."""


def heat_map(tables: Sequence[SliceTable], violated: Container[tuple[str, str]] = ()) -> Chart | None:
    """The loss in points by slice and condition, all images first, then the slice that certainly loses most.

    The number is in the cell, bold where the interval excludes zero; ``violated`` holds the pairs of condition and
    slice that break a blocking rule, which get a frame.  None where no loss was measured.
    """
    losses = {(table.condition, row.slice): row for table in tables for row in table.rows}
    known = [table for table in tables if any(isinstance(row.loss, Number) for row in table.rows)]
    if not known:
        return None
    shown = sorted(known[1:], key=lambda one: -_certain(losses.get((one.condition, OVERALL))))[: MAP_COLUMNS - 1]
    columns = [table for table in known if table is known[0] or table in shown]
    names = list(dict.fromkeys(row.slice for table in known for row in table.rows))
    names.sort(key=lambda n: (n != OVERALL, -max(_certain(losses.get((one.condition, n))) for one in known)))
    top = max(min(len(table.title), 30) for table in columns) * 4.4 + 8
    parts = [
        f'<text transform="translate({NAMES + CELL * x + 24} {top - 5:g}) rotate(-50)">'
        f"{escape(_cut(table.title, 30))}</text>"
        for x, table in enumerate(columns)
    ]
    for y, name in enumerate(names[:MAP_ROWS]):
        parts.append(_text(NAMES - 6, top + ROW * y + 14, _cut(slice_words(name), 24), "end"))
        for x, table in enumerate(columns):
            row = losses.get((table.condition, name))
            place = (NAMES + CELL * x, top + ROW * y)
            parts.append(_cell(row, place, f"{slice_words(name)}, {table.title}", (table.condition, name) in violated))
    text = f"Loss in points of {plural(len(names), 'slice')} under {plural(len(known), 'condition')}"
    text += f", of which {len(names[:MAP_ROWS])} and {len(columns)} are shown; the tables list all"
    width, height = NAMES + CELL * len(columns) + 90, top + ROW * len(names[:MAP_ROWS]) + 2
    size = f'class="heat" viewBox="0 0 {width} {height:g}" width="{width}" height="{height:g}"'
    return _chart(text, parts, size)


def _certain(row: SliceRow | None) -> float:
    """The least that a slice loses."""
    return row.loss.low if row and isinstance(row.loss, Number) else -1.0


def _cell(row: SliceRow | None, place: tuple[float, float], title: str, violated: bool) -> str:
    x, y = place
    loss = row.loss if row else Gap(reason="not measured")
    if row is None or not isinstance(loss, Number):
        why = escape(f"{title}: {value_text(loss)}, {loss.reason if isinstance(loss, Gap) else ''}")
        return f"<g><title>{why}</title>{_rect(x, y, 'none')}{_text(x + 19, y + 14, '–')}</g>"
    words = f"{title}: loss {short_text(loss)}, {plural(loss.images, 'image')}; parent {value_text(row.parent)}, "
    words += f"candidate {value_text(row.candidate)}"
    level = f"l{sum(loss.value >= step for step in _LEVELS)}" if loss.value > -0.005 else "gain"
    number = _text(x + 19, y + 14, f"{100 * loss.value:.1f}".replace("-", "−"), kind="sure" if loss.low > 0 else "")
    return f"<g><title>{escape(words)}</title>{_rect(x, y, level + ' broken' * violated)}{number}</g>"


def _rect(x: float, y: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x + 1}" y="{y + 1:g}" width="{CELL - 2}" height="{ROW - 2}"/>'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


# Charts with two axes, in the units of a view box; sized to be read on a phone.

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, MARGIN = 340, 236, 40, 12, 26, 42, 8


@dataclass(frozen=True)
class _Plot:
    """A pair of axes: from values to positions in the view box."""

    across: Axis
    up: Axis

    def x(self, value: float) -> float:
        return round(LEFT + MARGIN + self.across.at(value) / 100 * (WIDTH - LEFT - RIGHT - 2 * MARGIN), 1)

    def y(self, value: float) -> float:
        return round(TOP + (1 - self.up.at(value) / 100) * (HEIGHT - TOP - BOTTOM), 1)

    def frame(self, across: Sequence[tuple[float, str]], up: Sequence[tuple[float, str]]) -> str:
        """Grid lines, tick labels and titles; labels that would touch the one before are left out."""
        parts = []
        for value, label in up:
            parts.append(_line("grid", LEFT, WIDTH - RIGHT, self.y(value), self.y(value)))
            parts.append(_text(LEFT - 6, self.y(value) + 4, label, "end"))
        last = -math.inf
        for value, label in sorted(across):
            if self.x(value) - last >= 6.5 * len(label) + 6:
                last = self.x(value)
                parts.append(_text(last, HEIGHT - BOTTOM + 15, label))
        parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, self.across.title, kind="label"))
        parts.append(_text(4, 12, self.up.title, "start", kind="label"))
        return "".join(parts)

    def interval(self, x: float, figure: Number, who: str, shift: float = 0.0) -> str:
        """A vertical interval; ``shift`` keeps those of parent and candidate apart."""
        at = self.x(x) + shift
        return _line(f"bar {who}", at, at, self.y(figure.low), self.y(figure.high))

    def series(self, points: Iterable[tuple[float, Figure]], who: str, shift: float = 0.0) -> str:
        """A line through measured points, each with its interval and the mark of ``parent`` or ``candidate``."""
        found = [(x, figure) for x, figure in points if isinstance(figure, Number)]
        places = [(self.x(x), self.y(figure.value)) for x, figure in found]
        line = " ".join(f"{x},{y}" for x, y in places)
        parts = [f'<polyline class="line {who}" points="{line}"/>'] if len(found) > 1 else []
        for (x, figure), place in zip(found, places, strict=True):
            parts += [self.interval(x, figure, who, shift), _mark(*place, who)]
        return "".join(parts)


def curve_chart(curve: Curve) -> Chart:
    """Score against severity for both models, with intervals."""
    severities = [point.severity for point in curve.points]
    axis = score_axis(figure for point in curve.points for figure in (point.parent, point.candidate))
    up = Axis(axis.low, axis.high, "score, per cent")
    plot = _Plot(Axis(min(severities), max(max(severities), min(severities) + 1e-9), curve.axis), up)
    parts = [plot.frame([(s, _short(s)) for s in severities], _shares(up))]
    parts.append(plot.series([(point.severity, point.parent) for point in curve.points], "parent", -2.5))
    parts.append(plot.series([(point.severity, point.candidate) for point in curve.points], "candidate", 2.5))
    each = "; ".join(
        f"at {_short(p.severity)}: parent {full_text(p.parent)}, candidate {full_text(p.candidate)}"
        for p in curve.points
    )
    return _chart(f"{curve.title}, {curve.axis}. {each}", parts)


def reliability_chart(found: Reliability) -> Chart:
    """The reliability diagram: accuracy against confidence; a calibrated model is on the diagonal.

    Reference: C. Guo et al. (2017), "On Calibration of Modern Neural Networks", arXiv:1706.04599.
    """
    ends = [end for one in (*found.candidate, *found.parent) for end in (one.confidence.value, one.accuracy.low)]
    up = _rounded(max(min(ends), 0.0), 1.0, "correct, per cent")
    plot = _Plot(Axis(up.low, up.high, "confidence, per cent"), up)
    parts = [plot.frame(_shares(up), _shares(up))]
    parts.append(_line("grid diagonal", plot.x(up.low), plot.x(1), plot.y(up.low), plot.y(1)))
    parts += [plot.series(_bins(found.parent), "parent"), plot.series(_bins(found.candidate), "candidate")]
    each = (
        f"{who}: "
        + "; ".join(f"confidence {value_text(one.confidence)}, correct {value_text(one.accuracy)}" for one in bins)
        for who, bins in (("candidate", found.candidate), ("parent", found.parent))
    )
    return _chart(f"Accuracy against confidence. {'. '.join(each)}", parts)


def _bins(bins: Iterable[ConfidenceBin]) -> list[tuple[float, Figure]]:
    return [(one.confidence.value, one.accuracy) for one in bins]


def frontier_chart(points: Sequence[FrontierPoint]) -> Chart:
    """Score against remaining weights for the candidates of one parent; filled if approved, this one in a ring."""
    measured = [(point, point.score) for point in points if isinstance(point.score, Number)]
    up = _rounded(max(min((figure.low for _, figure in measured), default=0.0), 0.0), 1.0, "score, per cent")
    most = max(point.weights for point in points) or 1.0
    plot = _Plot(Axis(0.0, most, "remaining weights"), up)
    parts = [plot.frame([(most * n / 2, plain(float(round(most * n / 2)))) for n in range(3)], _shares(up))]
    for point, figure in measured:
        x, y = plot.x(point.weights), plot.y(figure.value)
        parts.append(plot.interval(point.weights, figure, "candidate"))
        parts.append(_mark(x, y, f"candidate {point.outcome}"))
        parts.append(_text(x, plot.y(figure.low) + 13, point.version))
        if point.subject:
            parts.append(f'<circle class="ring" cx="{x}" cy="{y}" r="8.5"/>')
    each = "; ".join(
        f"version {point.version}{' (this one)' if point.subject else ''}, {plain(point.weights)} remaining weights: "
        f"{full_text(point.score)}, {point.outcome}"
        for point in points
    )
    return _chart(f"Score against remaining weights. {each}", parts)


@dataclass(frozen=True)
class SweepPoint:
    """One candidate of a compression sweep: its size, one reading of it, and how its trial ended."""

    method: str
    size: float
    value: float
    ending: str
    best: bool


def sweep_chart(size: str, panels: Mapping[str, Sequence[SweepPoint]]) -> Chart:
    """One panel for each reading against size: a line for each method, a mark for each ending, the best in a ring."""
    endings = list(dict.fromkeys(point.ending for points in panels.values() for point in points))
    parts = [
        f'<svg x="{n * WIDTH}" width="{WIDTH}" height="{HEIGHT}">{_panel(size, name, points)}</svg>'
        for n, (name, points) in enumerate(panels.items())
    ]
    for n, ending in enumerate(endings):
        parts.append(_ending_mark(LEFT + n * 150, HEIGHT + 8, ending))
        parts.append(_text(LEFT + 10 + n * 150, HEIGHT + 12, ending, "start"))
    each = (
        f"{name}: " + "; ".join(f"{p.method} at {plain(p.size)}: {p.value:.4g}, {p.ending}" for p in points)
        for name, points in panels.items()
    )
    box = f'class="curve" viewBox="0 0 {WIDTH * max(len(panels), 1)} {HEIGHT + 22}"'
    return _chart(f"Readings against {size}. {'. '.join(each)}", parts, box)


@dataclass(frozen=True)
class TornadoBar:
    """A total with one input at its low and its high end; ``base`` is the total with all inputs as they are."""

    name: str
    low: float
    high: float
    base: float


def evidence_chart(points: Sequence[tuple[datetime.datetime, float]]) -> Chart:
    """Evidence of a change by the time of the run, as a share of what raises an alarm, with a line at 1."""
    first = points[0][0]
    days = [((at - first).total_seconds() / 86400, value) for at, value in points]
    up = _rounded(0.0, min(max(1.2, *(value for _, value in days), 1.2), 3.0), "evidence, share of an alarm")
    plot = _Plot(Axis(0.0, max(days[-1][0], 1e-3), f"days since {first:%Y-%m-%d}"), up)
    parts = [plot.frame(*([(tick, _compact(tick)) for tick in axis.ticks()] for axis in (plot.across, plot.up)))]
    parts.append(_line("grid diagonal", LEFT, WIDTH - RIGHT, plot.y(1), plot.y(1)))
    places = " ".join(f"{plot.x(x)},{plot.y(y)}" for x, y in days)
    parts.append(f'<polyline class="line candidate" points="{places}"/>')
    parts += [_mark(plot.x(x), plot.y(y), "candidate") for x, y in days]
    each = "; ".join(f"{at:%Y-%m-%d %H:%M}: {value:.2f}" for at, value in points[-5:])
    return _chart(f"Evidence of a change in {plural(len(points), 'run')}; 1 raises an alarm. Last: {each}", parts)


def tornado_chart(bars: Sequence[TornadoBar], unit: str) -> Chart:
    """One bar for each input, the one that moves the total most at the top."""
    ends = [end for bar in bars for end in (bar.low, bar.high)] or [0.0, 1.0]
    axis, parts = Axis(min(ends), max(max(ends), min(ends) + 1e-9), unit), []
    for row, bar in enumerate(bars):
        left, right = sorted(LEFT + 2.4 * axis.at(end) for end in (bar.low, bar.high))
        top = 14 + 18 * row
        parts.append(f'<rect class="bar" x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="10"/>')
        parts.append(_text(right + 4, top + 9, f"{bar.name}: {bar.low:,.0f} to {bar.high:,.0f}", "start"))
    if bars:
        middle = LEFT + 2.4 * axis.at(bars[0].base)
        parts.append(f'<path class="grid" d="M{middle:.1f} 8V{18 + 18 * len(bars)}"/>')
    each = "; ".join(f"{bar.name}: {bar.low:,.0f} to {bar.high:,.0f} {unit}" for bar in bars)
    return _chart(f"Total with each input at its ends. {each}", parts,
                  f'class="curve" viewBox="0 0 {WIDTH + 160} {24 + 18 * len(bars)}"')  # fmt: skip


def _panel(size: str, name: str, points: Sequence[SweepPoint]) -> str:
    sizes, values = [point.size for point in points], [point.value for point in points]
    plot = _Plot(_rounded(min(sizes), max(sizes), size), _rounded(min(values), max(values), name))
    parts = [plot.frame(*([(tick, _compact(tick)) for tick in axis.ticks()] for axis in (plot.across, plot.up)))]
    for number, method in enumerate(dict.fromkeys(point.method for point in points)):
        line = sorted((point.size, point.value) for point in points if point.method == method)
        places = " ".join(f"{plot.x(x)},{plot.y(y)}" for x, y in line)
        parts.append(f'<polyline class="line method-{number % 4}" points="{places}"/>')
        parts.append(_text(min(plot.x(line[-1][0]), WIDTH - RIGHT), plot.y(line[-1][1]) - 9, method, "end"))
    for point in points:
        parts.append(_ending_mark(plot.x(point.size), plot.y(point.value), point.ending))
        if point.best:
            parts.append(f'<circle class="ring" cx="{plot.x(point.size)}" cy="{plot.y(point.value)}" r="8.5"/>')
    return "".join(parts)


def _ending_mark(x: float, y: float, ending: str) -> str:
    """A filled circle for what passed, a cross for what failed, an open triangle for everything else."""
    if ending == "passed":
        return _mark(x, y, "candidate")
    shape = "M-4-4 4 4M4-4-4 4" if ending == "failed" else "M-4.5-4h9L0 4.5z"
    return f'<path class="mark failed" transform="translate({x} {y})" d="{shape}"/>'


def _shares(axis: Axis) -> list[tuple[float, str]]:
    return [(tick, f"{tick * 100:.4g}") for tick in axis.ticks()]


def _short(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def _compact(value: float) -> str:
    """A tick label of at most four digits, with k, M or G."""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= factor:
            return f"{_short(value / factor)}{unit}"
    return _short(value)


def _line(kind: str, x1: object, x2: object, y1: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" x2="{x2}" y1="{y1}" y2="{y2}"/>'


def _text(x: float, y: float, words: str, anchor: str = "middle", kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def _mark(x: float, y: float, who: str) -> str:
    if who == "parent":
        return f'<path class="mark parent" d="M{x} {y - 5}l5 5-5 5-5-5z"/>'
    return f'<circle class="mark {who}" cx="{x}" cy="{y}" r="4.2"/>'


def _chart(text: str, parts: Iterable[str], box: str = f'class="curve" viewBox="0 0 {WIDTH} {HEIGHT}"') -> Chart:
    return Chart(f'<svg role="img" aria-label="{escape(text)}" {box}>{"".join(parts)}</svg>', text)


STYLE = (
    "text{font-size:11px;fill:#59606a;font-family:'Libertinus Serif',serif}.none{font-style:italic}"
    ".grid{stroke:#ddd8cd;stroke-width:1}.bar{stroke-width:2.5}.line{fill:none;stroke-width:2}"
    ".candidate{stroke:#00639c}.parent{stroke:#6a6f78}.line.parent{stroke-dasharray:4 3}.bar.parent{stroke-width:1.5}"
    ".mark.candidate{fill:#00639c}.mark.parent{fill:#ffffff;stroke-width:1.8}"
    ".mark.candidate.rejected,.mark.candidate.inconclusive{fill:#ffffff;stroke-width:2}"
    ".mark.candidate.inconclusive{stroke-dasharray:2 2}.diagonal{stroke:#59606a;stroke-dasharray:2 4}"
    ".ring{fill:none;stroke:#1d2126;stroke-width:1.5}.mark.failed{fill:#ffffff;stroke:#b23c00;stroke-width:2}"
    ".heat text{font-size:10px}.heat .sure{font-weight:bold}"
    ".heat .none{fill:#ffffff;stroke:#ddd8cd;stroke-dasharray:2 2}"
    ".heat .gain{fill:#dcebf5}.heat .l0{fill:#f7f5f0}.heat .l1{fill:#f8e9dc}.heat .l2{fill:#f5d5bb}"
    ".heat .l3{fill:#f0b48a}"
    ".heat .l4{fill:#e8925c}.heat .l5{fill:#e0753a}"
    ".heat .broken{stroke:#1d2126;stroke-width:1.5}.heat text{fill:#1d2126}"
    ".method-0,.method-1,.method-2,.method-3{stroke:#6a6f78;stroke-width:1.2}"
    ".method-1{stroke-dasharray:6 3}.method-2{stroke-dasharray:2 3}.method-3{stroke-dasharray:8 3 2 3}"
)
"""Colours on white for a chart in a file of its own; the page styles hold the same classes with their own colours."""


def standalone(chart: Chart) -> bytes:
    """The chart as an SVG file with its style, in a size of its own where it fills a table cell."""
    svg = chart.svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    svg = svg.replace('height="34" width="100%"', f'width="{WIDTH}" height="34"', 1)
    return svg.replace(">", f"><title>{escape(chart.text)}</title><style>{STYLE}</style>", 1).encode()
