"""The frontier of a sweep as a picture: what each step of compression costs, and how far the policy lets one go."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.pruning.ladder_search import Frontier, Trial

COLOURS = {"passed": "#1b7f4d", "failed": "#b3261e", "failed the cheap check": "#d08770"}
"""Green and red differ in brightness too, and each ending has a mark of its own, so no colour has to be seen."""
MARKS = {"passed": "o", "failed": "x", "failed the cheap check": "v"}


def draw(frontier: Frontier, *, size: str, readings: Sequence[str]) -> bytes:
    """A PNG with one panel for each reading over the fact ``size``, the passing region shaded, the best ringed.

    Raises:
        InvalidInput: no trial has both a size and one of these readings.
        Unavailable: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unavailable("drawing needs matplotlib: pip install matplotlib") from error
    shown = [name for name in readings if any(_has(trial, size, name) for trial in frontier.trials)]
    if not shown:
        raise InvalidInput(f"no trial has {size} and one of {', '.join(readings) or 'no reading at all'}")
    figure = Figure(figsize=(4.2 * len(shown), 3.4), layout="constrained")
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for panel, name in zip(panels, shown, strict=True):
        _panel(panel, frontier, size, name)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120, metadata={"Software": None})
    return buffer.getvalue()


def _has(trial: Trial, size: str, name: str) -> bool:
    return size in trial.facts and name in trial.readings


def _panel(panel: Any, frontier: Frontier, size: str, name: str) -> None:
    """One reading over size: a line for each method, a mark for each ending."""
    for method in dict.fromkeys(trial.ladder for trial in frontier.trials):
        line = sorted(
            (trial.facts[size], trial.readings[name])
            for trial in frontier.trials
            if trial.ladder == method and _has(trial, size, name)
        )
        if line:
            panel.plot(*zip(*line, strict=True), linewidth=1, label=method, zorder=1)
    for trial in frontier.trials:
        if _has(trial, size, name):
            panel.scatter(trial.facts[size], trial.readings[name], marker=MARKS[trial.ending],
                          color=COLOURS[trial.ending], zorder=2)  # fmt: skip
    best = frontier.best
    if best is not None and _has(best, size, name):
        largest = max(trial.facts[size] for trial in frontier.trials if _has(trial, size, name))
        panel.axvspan(best.facts[size], max(largest, best.facts[size]), color=COLOURS["passed"], alpha=0.08,
                      label="passes, by what was audited")  # fmt: skip
        panel.scatter(best.facts[size], best.readings[name], s=140, facecolors="none", edgecolors="black", zorder=3)
    panel.set_xlabel(size.replace("_", " "))
    panel.set_ylabel(name.replace("_", " "))
    panel.legend(fontsize=7)
