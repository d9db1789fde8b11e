"""What the demo prints: the decisions as a table, overall first and then the slice, and the findings in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table
from rich.text import Text

from auditsvc.records import (
    OVERALL,
    Candidate,
    Judgement,
    Measured,
    Submission,
    Unmeasured,
    Verification,
)
from auditsvc.services.audit import AuditResult

_STYLES = {"approved": "bold green", "rejected": "bold red", "inconclusive": "bold yellow"}

SHOWN = 6
"""Findings printed for each candidate; the report has all of them."""


@dataclass(frozen=True)
class Row:
    """One candidate with its submission and its audit."""

    candidate: Candidate
    submission: Submission
    audit: AuditResult


def decisions_table(rows: Iterable[Row]) -> Table:
    """One line for each candidate."""
    table = Table(caption_justify="left", box=SIMPLE, padding=(0, 0, 1, 0), pad_edge=False, show_edge=False)
    for title in ("version", "recipe", "right,\noverall", "lost against\nthe parent", "worst loss", "decision"):
        table.add_column(title, no_wrap=True)
    for row in rows:
        table.add_row(
            row.submission.version,
            _recipe(row.candidate),
            _shown(_reading(row, "score.clean", OVERALL)),
            _shown(_reading(row, "drop.clean", OVERALL), points=True),
            _worst(row),
            Text(row.audit.decision.outcome, style=_STYLES[row.audit.decision.outcome]),
        )
    table.caption = (
        "\nIn percent and points; below each number its 90 % interval: each end is a one-sided 95 % bound.\n"
        "Worst loss: the judged slice and condition furthest down."
    )
    return table


def _recipe(candidate: Candidate) -> str:
    if candidate.recipe is None:
        return "pruned elsewhere"
    targets = ", ".join(f"{name} {value:g}" for name, value in candidate.recipe.targets.items())
    zeros = 100 * (1 - candidate.card["nonzero"] / candidate.card["parameters"])
    return f"{candidate.recipe.method}\n{targets}\n{zeros:.0f} % zeros"


def _reading(row: Row, metric: str, slice_name: str) -> Measured | Unmeasured:
    for item in row.audit.evidence:
        if item.key.check == "accuracy":
            return item.reading(metric, slice_name)
    return Unmeasured(reason="accuracy was not measured")


def _shown(outcome: Measured | Unmeasured, *, points: bool = False) -> str:
    if isinstance(outcome, Unmeasured):
        return "not known"
    sign = "+" if points else ""
    return f"{100 * outcome.value:{sign}.1f}\n{100 * outcome.low:{sign}.1f} to {100 * outcome.high:{sign}.1f}"


def _worst(row: Row) -> str:
    """The judged slice and condition with the largest loss."""
    runs = {item.digest: item for item in row.audit.evidence}
    losses = []
    for item in row.audit.decision.judgements:
        check, _, name = item.metric.partition("/")
        if item.evidence in runs and check != "adversarial" and isinstance(item.outcome, Measured):
            metric = runs[item.evidence].metric(name)
            if metric.role == "loss" and metric.condition:
                losses.append((item.outcome, item.slice, metric.condition))
    if not losses:
        return "not known"
    outcome, slice_name, condition = max(losses, key=lambda found: found[0].value)
    return f"{_shown(outcome, points=True)}\n{slice_name}\n{condition}"


def print_findings(console: Console, row: Row) -> None:
    """The findings of one candidate: what blocks in full, what is only unknown in one line each kind."""
    findings = row.audit.decision.findings
    blocking = [item for item in findings if item.severity == "block"]
    style = _STYLES[row.audit.decision.outcome]
    console.print(
        f"  version {row.submission.version} [{style}]{row.audit.decision.outcome}[/]"
        + (f": {len(blocking)} finding{'s' if len(blocking) != 1 else ''} against it" if blocking else "")
    )
    for item in blocking[:SHOWN]:
        _hang(console, item.verdict, f"{item.rule}: {item.words}")
    if len(blocking) > SHOWN:
        console.print(f"    and {len(blocking) - SHOWN} more, in the report", highlight=False)
    _print_small(console, [item for item in findings if item.severity == "warn"])
    for failed in row.audit.failures:
        console.print(f"    [bold red]check {failed.key.check} crashed[/]: {failed.error}", highlight=False)


def _print_small(console: Console, warnings: list[Judgement]) -> None:
    slices: dict[str, int] = {}
    for item in warnings:
        slices.setdefault(item.slice, item.outcome.images)
    if slices:
        named = ", ".join(f"{name} ({images} images)" for name, images in list(slices.items())[:SHOWN])
        more = f" and {len(slices) - SHOWN} more slices" if len(slices) > SHOWN else ""
        _hang(console, "unknown", f"too small to judge, not passed: {named}{more}")


def _hang(console: Console, label: str, text: str) -> None:
    """A label and a text whose further lines keep to the text's own column."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=13)
    grid.add_column(overflow="fold")
    grid.add_row(Text(f"    {label}"), Text(text))
    console.print(grid)


def print_verification(console: Console, title: str, found: Verification) -> None:
    """The verdict, and every reason where it is not VALID."""
    style = "bold green" if found.verdict == "VALID" else "bold red"
    held = sum(step.ok for step in found.steps)
    console.print(f"  {title}: [{style}]{found.verdict}[/] ({held} of {len(found.steps)} steps held)", highlight=False)
    for step in found.reasons:
        console.print(f"    {step.code}: {step.detail}", highlight=False)
