"""A candidate beside its parent: what was lost, on which slices, under which conditions, and how sure that is.

What a candidate's page draws: how scores fall as conditions get worse, the other candidates, flipped images.

Intervals as pictures: numbers in, positions on a drawing of fixed width out; the template draws them as SVG.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse

from auditsvc.compliance.assessment.assessment_context import Readings, Sibling
from auditsvc.compliance.render.charts import curve_plot, frontier_plot
from auditsvc.compliance.report.sections import curves, frontier
from auditsvc.errors import Unavailable
from auditsvc.records import (
    OVERALL,
    Candidate,
    CheckFailed,
    Decision,
    Evidence,
    Measured,
    Parent,
    Reading,
    Submission,
    Unmeasured,
)
from auditsvc.services.decisions import decision_records, is_clean
from auditsvc.services.gallery_files import PICTURES
from auditsvc.web.authentication import site_of
from auditsvc.web.pages.overview import row_of
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import page
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

MOST_SIBLINGS = 30


@dataclass(frozen=True)
class Drawn:
    """A picture with its title, as SVG."""

    title: str
    svg: Markup


def curves_of(evidence: tuple[Evidence, ...]) -> list[Drawn]:
    """A curve for each family of conditions with a severity: parent and candidate with their intervals."""
    readings = Readings({run.digest: run for run in evidence})
    return [Drawn(curve.title, _svg(curve_plot(curve))) for curve in curves(readings, evidence)]


def frontier_of(site: ProjectState, submission: Submission, decision: Decision) -> Markup | None:
    """Every judged candidate of the same parent under the same policy; nothing where there is only this one."""
    ledger = site.ledger
    candidate = ledger.get(Candidate, submission.candidate)
    others = (item for _, item in ledger.page(Candidate, subject=candidate.parent, limit=MOST_SIBLINGS))
    found = decision_records(submission.model, submission.version, candidate, decision, ledger)
    points = frontier(replace(found, siblings=tuple(_siblings(site, others, decision))))
    return _svg(frontier_plot(points)) if points else None


def _siblings(site: ProjectState, others: Iterator[Candidate], decision: Decision) -> Iterator[Sibling]:
    for other in others:
        decisions = site.ledger.find(Decision, f"{other.digest}|{decision.policy}")
        submissions = site.ledger.find(Submission, other.digest)
        if decisions and submissions:
            runs = (site.ledger.get(Evidence, digest) for digest in decisions[-1].evidence)
            clean = next((run for run in runs if is_clean(run)), None)
            yield Sibling(submissions[-1].version, other, decisions[-1].outcome, clean)


def pictures_of(folder: Path, model: str, version: str) -> list[dict[str, Any]]:
    """The flipped images that were kept with the version's report, as ``data:`` addresses with their words.

    Raises:
        Unavailable: they are there and can't be read.
    """
    path = folder / "reports" / model / version / PICTURES
    try:
        found: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.is_file() else []
    except (OSError, ValueError) as error:
        raise Unavailable(f"the pictures at {path} can't be read: {error}") from error
    return found


def _svg(drawn: str) -> Markup:
    """The compliance package escapes every text that it draws."""
    return Markup(drawn)  # noqa: S704 - see above


WIDTH = 240
"""The drawing's width, in its own units."""


ENOUGH = 30
"""Images from which on an interval has a say in how far the axis goes."""


@dataclass(frozen=True)
class Axis:
    """What the drawing's edges stand for; zero is always on it."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value lies, from 0 to ``WIDTH``."""
        return round((value - self.low) / (self.high - self.low) * WIDTH, 1)

    @property
    def zero(self) -> float:
        """Where nothing is lost."""
        return self.at(0.0)


@dataclass(frozen=True)
class Dot:
    """A value and the ends of its interval; ``cut`` where an end lies outside the drawing."""

    low: float
    value: float
    high: float
    cut: bool


def axis_for(found: Iterable[Measured]) -> Axis:
    """An axis that holds zero and every interval of enough images, with a little room; never empty.

    A handful of images has an interval so wide that beside it nothing else could be seen.
    """
    measured = list(found)
    known = [item for item in measured if item.images >= ENOUGH] or measured
    low = min([0.0, *(item.low for item in known)])
    high = max([0.01, *(item.high for item in known)])
    room = (high - low) * 0.04
    return Axis(low - room, high + room)


def dot_on(axis: Axis, found: Measured) -> Dot:
    """One reading on an axis."""
    ends = [axis.at(value) for value in (found.low, found.value, found.high)]
    low, value, high = (min(max(end, 0.0), float(WIDTH)) for end in ends)
    return Dot(low, value, high, cut=[low, value, high] != ends)


router = APIRouter(route_class=RoleRoute, include_in_schema=False)

SIBLINGS = 20


@dataclass(frozen=True)
class SliceRow:
    """One slice under one condition."""

    name: str
    parent: Measured | Unmeasured
    score: Measured | Unmeasured
    drop: Measured | Unmeasured
    dot: Dot | None


@dataclass(frozen=True)
class Condition:
    """One condition of a check: overall first, then the slices, the hardest hit first."""

    check: str
    name: str
    rows: tuple[SliceRow, ...]
    axis: Axis


@router.get("/candidates/{digest}")
def candidate(request: Request, digest: ADigest) -> HTMLResponse:
    """Everything that was measured of one candidate, from the newest run of each check."""
    site: ProjectState = site_of(request)
    ledger = site.ledger
    found = ledger.get(Candidate, digest)
    newest = {item.key.check: item for item in ledger.find(Evidence, digest)}
    submissions = ledger.find(Submission, digest)
    decisions = ledger.find(Decision, digest)[::-1]
    judged = bool(decisions and submissions)
    siblings = [item for _, item in ledger.page(Candidate, subject=found.parent, limit=SIBLINGS)]
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
        pictures=pictures_of(site.folder, submissions[-1].model, submissions[-1].version) if submissions else [],
        conditions=[part for item in newest.values() for part in conditions_of(item)],
        numbers=[(item.key.check, number) for item in newest.values() for number in _numbers(item)],
        flips=Counter(flip.condition for item in newest.values() for flip in item.flips),
        failed=ledger.find(CheckFailed, digest),
        siblings=[(item, ledger.find(Submission, item.digest)) for item in siblings if item.digest != digest],
    )


def conditions_of(evidence: Evidence) -> list[Condition]:
    """The conditions of a check that compares scores; none for one that measures something else."""
    names = [item.metric.removeprefix("drop.") for item in evidence.readings if item.metric.startswith("drop.")]
    return [_condition(evidence, name) for name in dict.fromkeys(names)]


def _condition(evidence: Evidence, name: str) -> Condition:
    slices = dict.fromkeys(item.slice for item in evidence.readings if item.metric == f"drop.{name}")
    drops = {part: evidence.reading(f"drop.{name}", part) for part in slices}
    axis = axis_for([drop for drop in drops.values() if isinstance(drop, Measured)])
    rows = [
        SliceRow(
            name=part,
            parent=evidence.reading(f"parent.{name}", part),
            score=evidence.reading(f"score.{name}", part),
            drop=drop,
            dot=dot_on(axis, drop) if isinstance(drop, Measured) else None,
        )
        for part, drop in drops.items()
    ]
    rows.sort(key=lambda row: (row.name != OVERALL, -row.drop.value if isinstance(row.drop, Measured) else 1.0))
    return Condition(evidence.key.check, name, tuple(rows), axis)


def _numbers(evidence: Evidence) -> list[Reading]:
    """Readings that are no comparison of scores: of the watermark, of size and speed."""
    compared = ("drop.", "parent.", "score.")
    return [item for item in evidence.readings if not item.metric.startswith(compared)]
