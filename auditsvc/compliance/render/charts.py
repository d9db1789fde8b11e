"""More pictures as SVG text: confidence against being right, and candidates by what is left of them.

Drawn as in ``plots``: colours from CSS classes, shape says the same as colour, the numbers stand in a table beside.

Pictures as SVG text: intervals of slices, and scores against severity.

Colours come from CSS classes, so that they follow light, dark and print.  Shape says the same as colour: the
candidate is a filled circle on a solid line, the parent an open diamond on a dashed one.  The numbers stand in
a table beside each picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from auditsvc.compliance.report.figures import Figure, Number
from auditsvc.compliance.report.report_model import ConfidenceBin, FrontierPoint, Reliability
from auditsvc.compliance.report.report_parts import Curve, CurvePoint
from auditsvc.compliance.report.wording import full_text, plain, value_text


@dataclass(frozen=True)
class Scale:
    """From a value to a position in 0..100."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """The position of a value, in per cent of the width."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> tuple[float, ...]:
        """Round values inside the scale, at most six."""
        step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0) if (self.high - self.low) / step <= 5.001)
        first = math.ceil(self.low / step - 1e-9)
        return tuple(round(n * step, 6) for n in range(first, math.floor(self.high / step + 1e-9) + 1))


def scale_of(figures: Iterable[Figure]) -> Scale:
    """A scale from a round value under the lowest end to 1; a score's axis need not start at 0."""
    lows = [figure.low for figure in figures if isinstance(figure, Number)]
    low = math.floor(min(lows, default=0.0) * 10) / 10
    return Scale(min(max(low, 0.0), 0.9), 1.0)


def interval_row(parent: Figure, candidate: Figure, scale: Scale, label: str) -> str:
    """Parent above candidate, each a point on its interval; nothing is drawn for what was not measured."""
    parts = [f'<line class="grid" x1="{scale.at(t)}%" x2="{scale.at(t)}%" y1="0" y2="34"/>' for t in scale.ticks()]
    if isinstance(parent, Number):
        parts.append(_interval(parent, scale, 11, "parent"))
        x = scale.at(parent.value)
        parts.append(f'<svg x="{x}%" y="11" overflow="visible"><path class="mark parent" d="M0-5 5 0 0 5-5 0z"/></svg>')
    if isinstance(candidate, Number):
        parts.append(_interval(candidate, scale, 24, "candidate"))
        parts.append(f'<circle class="mark candidate" cx="{scale.at(candidate.value)}%" cy="24" r="4.5"/>')
    else:
        parts.append('<text class="none" x="0" y="22">not measured</text>')
    words = f"{label}: parent {full_text(parent)}, candidate {full_text(candidate)}"
    return (
        f'<svg class="interval" role="img" aria-label="{escape(words)}" height="34" width="100%">{"".join(parts)}</svg>'
    )


def _interval(figure: Number, scale: Scale, y: int, who: str) -> str:
    return f'<line class="bar {who}" x1="{scale.at(figure.low)}%" x2="{scale.at(figure.high)}%" y1="{y}" y2="{y}"/>'


def axis_row(scale: Scale) -> str:
    """The labels over a column of interval rows."""
    labels = []
    for tick in scale.ticks():
        anchor = "start" if scale.at(tick) < 4 else "end" if scale.at(tick) > 96 else "middle"
        labels.append(f'<text x="{scale.at(tick)}%" y="12" text-anchor="{anchor}">{tick * 100:g}</text>')
    return f'<svg class="axis" aria-hidden="true" height="16" width="100%">{"".join(labels)}</svg>'


WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 340, 220, 38, 12, 12, 42


def curve_plot(curve: Curve) -> str:
    """Score against severity for both models, with their intervals; sized to be read on a phone."""
    xs = [point.severity for point in curve.points]
    span = (max(xs) - min(xs)) or 1.0

    def x(severity: float) -> float:
        return round(LEFT + 8 + (severity - min(xs)) / span * (WIDTH - LEFT - RIGHT - 16), 1)

    parts = [_grid_line(tick) for tick in (0.0, 0.25, 0.5, 0.75, 1.0)]
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts += [
        f'<text x="{x(s)}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{_short(s)}</text>' for s in _apart(xs, x)
    ]
    parts.append(f'<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(curve.axis)}</text>')
    parts += [_series(curve.points, who, x_of={s: x(s) for s in xs}) for who in ("parent", "candidate")]
    return (
        f'<svg class="curve" role="img" aria-label="{escape(curve_words(curve))}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f"{''.join(parts)}</svg>"
    )


def _y(value: float) -> float:
    return round(TOP + (1 - min(max(value, 0.0), 1.0)) * (HEIGHT - TOP - BOTTOM), 1)


def _grid_line(tick: float) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(tick)}" y2="{_y(tick)}"/>'
        f'<text x="{LEFT - 6}" y="{_y(tick) + 4}" text-anchor="end">{tick * 100:g}</text>'
    )


def _apart(severities: list[float], x: object) -> list[float]:
    """The severities that can be labelled without touching each other."""
    chosen: list[float] = []
    for severity in severities:
        if not chosen or not callable(x) or x(severity) - x(chosen[-1]) >= 26:
            chosen.append(severity)
    return chosen


def _series(points: tuple[CurvePoint, ...], who: str, x_of: dict[float, float]) -> str:
    shift = -2.5 if who == "parent" else 2.5
    found = [(x_of[p.severity], figure) for p in points if isinstance(figure := getattr(p, who), Number)]
    line = " ".join(f"{x},{_y(figure.value)}" for x, figure in found)
    parts = [f'<polyline class="line {who}" points="{line}"/>'] if len(found) > 1 else []
    for x, figure in found:
        parts.append(
            f'<line class="bar {who}" x1="{x + shift}" x2="{x + shift}" y1="{_y(figure.low)}" y2="{_y(figure.high)}"/>'
        )
        y = _y(figure.value)
        parts.append(
            f'<path class="mark parent" d="M{x} {y - 5}l5 5-5 5-5-5z"/>'
            if who == "parent"
            else f'<circle class="mark candidate" cx="{x}" cy="{y}" r="4.2"/>'
        )
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:g}".replace("-", "−")


def curve_words(curve: Curve) -> str:
    """The picture in words: every point with its interval."""
    each = "; ".join(
        f"at {_short(p.severity)}: parent {full_text(p.parent)}, candidate {full_text(p.candidate)}"
        for p in curve.points
    )
    return f"{curve.title}, {curve.axis}. {each}"


_ACROSS, _DOWN = WIDTH - LEFT - RIGHT - 16, HEIGHT - TOP - BOTTOM


def _x(share: float) -> float:
    return round(LEFT + 8 + min(max(share, 0.0), 1.0) * _ACROSS, 1)


def _chart_y(share: float) -> float:
    return round(TOP + (1 - min(max(share, 0.0), 1.0)) * _DOWN, 1)


def _grid(labels: tuple[tuple[float, str], ...]) -> str:
    return "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_y(at)}" y2="{_y(at)}"/>'
        f'<text x="{LEFT - 6}" y="{_y(at) + 4}" text-anchor="end">{label}</text>'
        for at, label in labels
    )


def _axis(title: str, ticks: tuple[tuple[float, str], ...]) -> str:
    middle = (LEFT + WIDTH - RIGHT) / 2
    places = "".join(
        f'<text x="{_x(at)}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">{escape(label)}</text>'
        for at, label in ticks
    )
    return f'{places}<text class="label" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(title)}</text>'


def _floor_of(least: float) -> float:
    """Where an axis begins so that its four steps to 1 are round numbers."""
    return next(floor for floor in (0.96, 0.92, 0.8, 0.6, 0.2, 0.0) if floor <= max(least, 0.0))


def _svg(words: str, parts: str) -> str:
    return f'<svg class="curve" role="img" aria-label="{escape(words)}" viewBox="0 0 {WIDTH} {HEIGHT}">{parts}</svg>'


def reliability_plot(found: Reliability) -> str:
    """How often answers are right against how sure the model was, the diagonal between; both axes are one scale."""
    ends = [end for one in (*found.candidate, *found.parent) for end in (one.told.value, one.right.low)]
    low = _floor_of(min(ends))
    ticks = tuple((n / 4, f"{100 * (low + (1 - low) * n / 4):.3g}") for n in range(5))
    parts = [_grid(ticks), _axis("confidence, per cent; upwards: right, per cent", ticks)]
    parts.append(f'<line class="grid diagonal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>')
    parts += [_bins(found.parent, "parent", low), _bins(found.candidate, "candidate", low)]
    return _svg(reliability_words(found), "".join(parts))


def _bins(bins: tuple[ConfidenceBin, ...], who: str, low: float) -> str:
    def at(share: float) -> float:
        return (share - low) / (1 - low)

    places = [(_x(at(one.told.value)), _chart_y(at(one.right.value)), one.right) for one in bins]
    parts = [f'<polyline class="line {who}" points="{" ".join(f"{x},{y}" for x, y, _ in places)}"/>']
    for x, y, right in places:
        ends = f'y1="{_y(at(right.low))}" y2="{_y(at(right.high))}"'
        parts += [f'<line class="bar {who}" x1="{x}" x2="{x}" {ends}/>', _mark(x, y, who)]
    return "".join(parts)


def _mark(x: float, y: float, who: str) -> str:
    if who == "parent":
        return f'<path class="mark parent" d="M{x} {y - 5}l5 5-5 5-5-5z"/>'
    return f'<circle class="mark candidate" cx="{x}" cy="{y}" r="4.2"/>'


def reliability_words(found: Reliability) -> str:
    """The picture in words."""
    each = (
        f"{who}: " + "; ".join(f"{value_text(one.told)} sure, {value_text(one.right)} right" for one in bins)
        for who, bins in (("candidate", found.candidate), ("parent", found.parent))
    )
    return f"Confidence against being right. {'. '.join(each)}"


def frontier_plot(points: tuple[FrontierPoint, ...]) -> str:
    """The score of each candidate against the weights that it has left; filled if approved, this one in a ring."""
    most = max(point.kept for point in points) or 1.0
    measured = [(point, point.score) for point in points if isinstance(point.score, Number)]
    least = min((figure.low for _, figure in measured), default=0.0)
    bottom = _floor_of(least)
    span = 1 - bottom

    def height(share: float) -> float:
        return _chart_y((share - bottom) / span)

    rows = tuple((n / 4, f"{100 * (bottom + span * n / 4):.3g}") for n in range(5))
    ticks = tuple((n / 4, plain(float(round(most * n / 4)))) for n in (0, 2, 4))
    parts = [_grid(rows), _axis("weights that are left; upwards: score, per cent", ticks)]
    for point, figure in measured:
        x, y = _x(point.kept / most), height(figure.value)
        parts.append(
            f'<line class="bar candidate" x1="{x}" x2="{x}" y1="{height(figure.low)}" y2="{height(figure.high)}"/>'
            f'<circle class="mark candidate {point.outcome}" cx="{x}" cy="{y}" r="4.5"/>'
            f'<text x="{x}" y="{height(figure.low) + 13}" text-anchor="middle">{escape(point.version)}</text>'
        )
        if point.here:
            parts.append(f'<circle class="ring" cx="{x}" cy="{y}" r="8.5"/>')
    return _svg(frontier_words(points), "".join(parts))


def frontier_words(points: tuple[FrontierPoint, ...]) -> str:
    """The picture in words."""
    each = "; ".join(
        f"version {point.version}{' (this one)' if point.here else ''}, {plain(point.kept)} weights left: "
        f"{full_text(point.score)}, {point.outcome}"
        for point in points
    )
    return f"Score against the weights that are left. {each}"
