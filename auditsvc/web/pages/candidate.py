"""The page of a candidate: its loss against the parent by slice and condition, with intervals.

It also shows the curves of scores against severity, the other candidates of the same parent, and images whose answer
changed.  All charts are made by ``compliance.render.charts``.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import Request
from markupsafe import Markup
from starlette.responses import HTMLResponse

from auditsvc.compliance.assessment.assessment_context import Readings, Sibling
from auditsvc.compliance.render.charts import Chart, curve_chart, frontier_chart, loss_axis, loss_row
from auditsvc.compliance.render.tables import PICTURES
from auditsvc.compliance.report.sections import curves, frontier
from auditsvc.compliance.report.wording import Figure, Number
from auditsvc.errors import Unavailable
from auditsvc.records import OVERALL, Candidate, CheckFailed, Decision, Evidence, Parent, Reading, Submission
from auditsvc.services.decisions import decision_records, is_clean, report_folder
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.pages.overview import row_of
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import page
from auditsvc.web.state import ProjectState

MAX_SIBLINGS = 30


def curves_of(evidence: tuple[Evidence, ...]) -> list[tuple[str, Markup]]:
    """Title and chart for each family of conditions with a severity: parent and candidate with their intervals."""
    readings = Readings({run.digest: run for run in evidence})
    return [(curve.title, _markup(curve_chart(curve))) for curve in curves(readings, evidence)]


def frontier_of(site: ProjectState, submission: Submission, decision: Decision) -> Markup | None:
    """Every decided candidate of the same parent under the same policy; None where there is only this one."""
    ledger = site.ledger
    candidate = ledger.get(Candidate, submission.candidate)
    others = (item for _, item in ledger.page(Candidate, subject=candidate.parent, limit=MAX_SIBLINGS))
    found = decision_records(submission.model, submission.version, candidate, decision, ledger)
    points = frontier(replace(found, siblings=tuple(_siblings(site, others, decision))))
    return _markup(frontier_chart(points)) if points else None


def _markup(chart: Chart) -> Markup:
    return Markup(chart.svg)  # noqa: S704 - charts escape every text


def _siblings(site: ProjectState, others: Iterator[Candidate], decision: Decision) -> Iterator[Sibling]:
    for other in others:
        decisions = site.ledger.find(Decision, f"{other.digest}|{decision.policy}")
        submissions = site.ledger.find(Submission, other.digest)
        if decisions and submissions:
            runs = (site.ledger.get(Evidence, digest) for digest in decisions[-1].evidence)
            clean = next((run for run in runs if is_clean(run)), None)
            yield Sibling(submissions[-1].version, other, decisions[-1].outcome, clean)


def pictures_of(folder: Path) -> list[dict[str, Any]]:
    """The flipped images that were kept with a decision's report, as ``data:`` addresses with their words.

    Raises:
        Unavailable: they are there and can't be read.
    """
    path = folder / PICTURES
    try:
        found: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.is_file() else []
    except (OSError, ValueError) as error:
        raise Unavailable(f"the pictures at {path} can't be read: {error}") from error
    return found


router = Router(include_in_schema=False)

LISTED_SIBLINGS = 20


@dataclass(frozen=True)
class SliceRow:
    """One slice under one condition; ``chart`` is None where the loss was not measured."""

    name: str
    parent: Figure
    score: Figure
    drop: Figure
    chart: Markup | None


@dataclass(frozen=True)
class Condition:
    """One condition of a check: all images first, then the slices, largest loss first."""

    check: str
    name: str
    rows: tuple[SliceRow, ...]


@router.get("/candidates/{digest}", needs="reader")
def candidate(request: Request, digest: ADigest) -> HTMLResponse:
    """Everything that was measured of one candidate, from the newest run of each check."""
    site: ProjectState = site_of(request)
    ledger = site.ledger
    found = ledger.get(Candidate, digest)
    newest = {item.key.check: item for item in ledger.find(Evidence, digest)}
    submissions = ledger.find(Submission, digest)
    decisions = ledger.find(Decision, digest)[::-1]
    judged = bool(decisions and submissions)
    siblings = [item for _, item in ledger.page(Candidate, subject=found.parent, limit=LISTED_SIBLINGS)]
    return page(
        request,
        "candidate.html",
        "/",
        candidate=found,
        parent=ledger.get(Parent, found.parent),
        row=row_of(site, submissions[-1]) if submissions else None,
        decisions=decisions,
        curves=curves_of(tuple(newest.values())),
        frontier=frontier_of(site, submissions[-1], decisions[0]) if judged else None,
        pictures=pictures_of(
            report_folder(site.folder, decisions[0].digest, submissions[-1].model, submissions[-1].version)
        )
        if judged
        else [],
        conditions=[part for item in newest.values() for part in conditions_of(item)],
        numbers=[(item.key.check, number) for item in newest.values() for number in _numbers(item)],
        flips=Counter(flip.condition for item in newest.values() for flip in item.flips),
        failed=ledger.find(CheckFailed, digest),
        siblings=[(item, ledger.find(Submission, item.digest)) for item in siblings if item.digest != digest],
    )


def conditions_of(evidence: Evidence) -> list[Condition]:
    """The conditions of a check that compares scores; none for a check that measures something else."""
    metrics = [evidence.metric(item.metric) for item in evidence.readings]
    names = [metric.condition for metric in metrics if metric.role == "loss" and metric.condition]
    readings = Readings({evidence.digest: evidence})
    return [_condition(evidence.key.check, name, readings) for name in dict.fromkeys(names)]


def _condition(check: str, name: str, readings: Readings) -> Condition:
    drops = {part: readings.get(f"drop.{name}", part) for part in readings.slices(f"drop.{name}")}
    axis = loss_axis([drop for drop in drops.values() if isinstance(drop, Number)])
    rows = [
        SliceRow(
            name=part,
            parent=readings.get(f"parent.{name}", part),
            score=readings.get(f"score.{name}", part),
            drop=drop,
            chart=_markup(loss_row(drop, axis, part)) if isinstance(drop, Number) else None,
        )
        for part, drop in drops.items()
    ]
    rows.sort(key=lambda row: (row.name != OVERALL, -row.drop.value if isinstance(row.drop, Number) else 1.0))
    return Condition(check, name, tuple(rows))


def _numbers(evidence: Evidence) -> list[Reading]:
    """Readings that do not compare scores: of the watermark, of size and latency."""
    metrics = {item.metric: evidence.metric(item.metric) for item in evidence.readings}
    compared = {name for name, one in metrics.items() if one.condition and one.role in ("score", "parent", "loss")}
    return [item for item in evidence.readings if item.metric not in compared]
