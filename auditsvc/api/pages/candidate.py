"""A candidate beside its parent: what was lost, on which slices, under which conditions, and how sure that is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

from auditsvc.api.identity import site_of
from auditsvc.api.pages.drawings import curves_of, frontier_of, pictures_of
from auditsvc.api.pages.intervals import Axis, Dot, axis_for, dot_on
from auditsvc.api.pages.overview import row_of
from auditsvc.api.reading import ADigest
from auditsvc.api.rendering import page
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
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
    site: Site = site_of(request)
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
