"""More pictures as SVG text: confidence against being right, and candidates by what is left of them.

Drawn as in ``plots``: colours from CSS classes, shape says the same as colour, the numbers stand in a table beside.
"""

from __future__ import annotations

from html import escape

from auditsvc.compliance.figures import Number
from auditsvc.compliance.renderings.plots import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from auditsvc.compliance.views import ConfidenceBin, FrontierPoint, Reliability
from auditsvc.compliance.words import full_text, plain, value_text

_ACROSS, _DOWN = WIDTH - LEFT - RIGHT - 16, HEIGHT - TOP - BOTTOM


def _x(share: float) -> float:
    return round(LEFT + 8 + min(max(share, 0.0), 1.0) * _ACROSS, 1)


def _y(share: float) -> float:
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

    places = [(_x(at(one.told.value)), _y(at(one.right.value)), one.right) for one in bins]
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
        return _y((share - bottom) / span)

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
