"""The page of a version: the verdict, its loss by slice and condition with intervals, and its images.

It also shows the curves of scores against severity, the other candidates of the same parent, and images whose answer
changed.  All charts are made by ``compliance.render.charts``.
"""

from __future__ import annotations

import json
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fastapi import Request
from markupsafe import Markup
from starlette.responses import HTMLResponse

from auditsvc.compliance.assessment.assessment_context import Readings, ReportInputs, Sibling, figure_of
from auditsvc.compliance.render.charts import Chart, curve_chart, frontier_chart, heat_map, loss_axis, loss_row
from auditsvc.compliance.render.tables import PICTURES
from auditsvc.compliance.report.report_model import RulePart, RuleRow, SliceRow
from auditsvc.compliance.report.sections import broken_cells, curves, frontier, rules, slice_tables, weakest_slice
from auditsvc.compliance.report.summary import plain_verdict
from auditsvc.compliance.report.wording import Figure, Number, count_title, sentence_case
from auditsvc.errors import Unavailable
from auditsvc.ports import Ledger
from auditsvc.records import (
    OVERALL,
    Candidate,
    CheckFailed,
    Decision,
    Evidence,
    Parent,
    Release,
    Revocation,
    Submission,
    Timing,
)
from auditsvc.services.decisions import is_clean, report_folder
from auditsvc.services.terms import decision_records
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.pages.overview import rows_of
from auditsvc.web.record_routes import ADigest
from auditsvc.web.rendering import page
from auditsvc.web.state import ProjectState

MAX_SIBLINGS = 30
SHOWN_RESULTS = 6
"""Results of a rule on the page of a decision; the report has all."""


@dataclass(frozen=True)
class Judged:
    """What a decision says, which never changes: its sentence, its map of losses, and its rules, worst first."""

    sentence: str
    heat: Markup | None
    rules: tuple[RulePart, ...]
    open: tuple[tuple[RulePart, int, tuple[RuleRow, ...]], ...]
    """The rules with results that are not met: how many, and the first of them."""
    titles: Mapping[str, str]
    """The title of each condition, by its name."""


_DRAWN: OrderedDict[str, Judged] = OrderedDict()
"""By the digest of the decision; at most ``_KEPT``."""
_KEPT = 200


def judged(site: ProjectState, decision: Decision, submission: Submission) -> Judged:
    """The decision in words and as a map; kept by its digest, because reading the evidence takes long."""
    digest = decision.digest
    known = _DRAWN.get(digest)
    if known is None:
        candidate = site.ledger.get(Candidate, decision.candidate)
        inputs = decision_records(ReportInputs, site.ledger, submission.model, submission.version, candidate, decision)
        parts = sorted(rules(inputs), key=lambda one: (one.severity != "block", not one.counts.violated))
        tables = slice_tables(inputs.readings)
        drawn = heat_map(tables, broken_cells(parts, tables))
        sentence, heat = plain_verdict(decision, inputs.readings), _markup(drawn) if drawn else None
        unmet = [(part, [row for row in part.rows if row.status != "met"]) for part in parts]
        shown = tuple((part, len(rows), tuple(rows[:SHOWN_RESULTS])) for part, rows in unmet if rows)
        known = _DRAWN[digest] = Judged(
            sentence, heat, tuple(parts), shown, {one.condition: one.title for one in tables}
        )
        if len(_DRAWN) > _KEPT:
            _DRAWN.popitem(last=False)
    return known


def worst_pictures(site: ProjectState, decision: Decision, submission: Submission) -> list[dict[str, Any]]:
    """The first images of a decision's report: what the parent answered right and the candidate does not."""
    return pictures_of(report_folder(site.folder, decision.digest, submission.model, submission.version))


def curves_of(evidence: tuple[Evidence, ...]) -> list[tuple[str, Markup]]:
    """Title and chart for each family of conditions with a severity: parent and candidate with their intervals."""
    readings = Readings({run.digest: run for run in evidence})
    return [(curve.title, _markup(curve_chart(curve))) for curve in curves(readings, evidence)]


def frontier_of(site: ProjectState, submission: Submission, decision: Decision) -> list[tuple[str, Markup]]:
    """Every decided candidate of the same parent under the same policy, on all images and on the weakest slice of each.

    Empty where there is only this one.
    """
    ledger = site.ledger
    candidate = ledger.get(Candidate, submission.candidate)
    others = (item for _, item in ledger.page(Candidate, subject=candidate.parent, limit=MAX_SIBLINGS))
    found = decision_records(ReportInputs, ledger, submission.model, submission.version, candidate, decision)
    siblings = tuple(_siblings(site, others, decision))
    points = frontier(replace(found, siblings=siblings))
    if not points:
        return []
    own = next((run for run in found.evidence if is_clean(run)), None)
    runs = {one.candidate.digest: one.evidence for one in siblings} | {candidate.digest: own}
    weakest = [
        point.model_copy(update={"score": weakest_slice("score.clean", Readings({run.digest: run}))[1]})
        for point in points
        if (run := runs[point.candidate]) is not None
    ]
    charts = (("All images", points), ("The weakest slice of each version", weakest))
    return [(title, _markup(frontier_chart(shown))) for title, shown in charts if shown]


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
class Condition:
    """One condition of a check: all images first, then the slices, largest loss first, with a chart of each loss."""

    check: str
    name: str
    title: str
    rows: tuple[tuple[SliceRow, Markup | None], ...]


@router.get("/candidates/{digest}", needs="reader")
def candidate(request: Request, digest: ADigest) -> HTMLResponse:
    """Everything that was measured of one candidate, from the newest run of each check."""
    site: ProjectState = site_of(request)
    ledger = site.ledger
    found = ledger.get(Candidate, digest)
    newest = {item.key.check: item for item in ledger.find(Evidence, digest)}
    submissions = ledger.find(Submission, digest)
    decisions = ledger.find(Decision, digest)[::-1]
    about = (site, decisions[0], submissions[-1]) if decisions and submissions else None
    siblings = [item for _, item in ledger.page(Candidate, subject=found.parent, limit=LISTED_SIBLINGS)]
    parent = ledger.get(Parent, found.parent)
    return page(
        request,
        "candidate.html",
        "/",
        candidate=found,
        parent=parent,
        costs=costs_of(found, parent, ledger.find(Timing, digest)),
        row=next(iter(rows_of(site, submissions[-1:])), None),
        decisions=decisions,
        judged=judged(*about) if about else None,
        curves=curves_of(tuple(newest.values())),
        frontier=frontier_of(site, submissions[-1], decisions[0]) if about else [],
        pictures=worst_pictures(*about) if about else [],
        conditions=[part for item in newest.values() for part in conditions_of(item)],
        numbers=[number for item in newest.values() for number in _numbers(item)],
        flips=Counter(flip.condition for item in newest.values() for flip in item.flips),
        failed=ledger.find(CheckFailed, digest),
        released=released_version(ledger, candidate=found),
        siblings=[(item, ledger.find(Submission, item.digest)) for item in siblings if item.digest != digest],
    )


def released_version(ledger: Ledger, candidate: Candidate) -> str:
    """The version of this model that is released now, to compare with; empty if it is this one, or none."""
    for release in reversed(ledger.find(Release, candidate.model)):
        if not ledger.find(Revocation, release.digest):
            return "" if release.candidate == candidate.digest else release.version
    return ""


def costs_of(found: Candidate, parent: Parent, timings: tuple[Timing, ...]) -> list[tuple[str, str, str]]:
    """Name, parent's and candidate's value of what was counted; empty where the parent's is not recorded."""
    before, after = (sum(file.size for file in one.files) for one in (parent, found))
    rows = [("Files, bytes", f"{before:,}", f"{after:,}")]
    rows += [(count_title(name), "", f"{value:,.0f}") for name, value in sorted(found.card.items())]
    for one in timings[-1:]:
        whole = (one.parent_median_ms, one.parent_iqr_ms), (one.median_ms, one.iqr_ms)
        parents, own = (f"{median:.3g} ({spread:.2g})" for median, spread in whole)
        rows.append(("Latency, ms (interquartile range)", parents, own))
    return rows


def conditions_of(evidence: Evidence) -> list[Condition]:
    """The conditions of a check that compares scores; none for a check that measures something else."""
    readings = Readings({evidence.digest: evidence})
    made = []
    for table in slice_tables(readings):
        axis = loss_axis([row.loss for row in table.rows if isinstance(row.loss, Number)])
        rows = [
            (row, _markup(loss_row(row.loss, axis, row.slice)) if isinstance(row.loss, Number) else None)
            for row in table.rows
        ]
        rows.sort(key=lambda one: _worst_first(one[0]))
        if any(readings.slices(f"drop.{table.condition}")):
            made.append(Condition(evidence.key.check, table.condition, table.title, tuple(rows)))
    return made


def _worst_first(row: SliceRow) -> tuple[bool, float]:
    return row.slice != OVERALL, -row.loss.value if isinstance(row.loss, Number) else 1.0


def _numbers(evidence: Evidence) -> list[tuple[str, str, Figure]]:
    """Title, slice and value of readings that do not compare scores: of the watermark, of size and latency."""
    found = []
    for item in evidence.readings:
        metric = evidence.metric(item.metric)
        if not (metric.condition and metric.role in ("score", "parent", "loss")):
            figure = figure_of(metric, item.outcome, evidence.digest, evidence.key.alpha)
            found.append((sentence_case(metric.title), item.slice, figure))
    return found
