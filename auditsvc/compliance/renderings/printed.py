"""Parts of the paper report as finished text: no rounding and no choice is left to Typst."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from auditsvc.compliance.figures import Counts, Figure, Number
from auditsvc.compliance.model import FrameworkPart, Report
from auditsvc.compliance.parts import Curve, EvidenceRow, RulePart, SliceTable
from auditsvc.compliance.renderings import plots
from auditsvc.compliance.words import (
    amount,
    condition_words,
    day,
    interval_text,
    is_score,
    metric_words,
    minute,
    plural,
    slice_words,
    value_text,
)

Json = dict[str, Any]

MANY = 40
"""A rule with more lines met than this prints only those that are not, and how many are."""


def short(digest: str | None) -> str:
    """The first twelve digits of a digest."""
    return (digest or "").removeprefix("sha256:")[:12]


def counted(counts: Counts) -> list[list[Any]]:
    """Names and numbers of the parts of the counts bar."""
    order = ("violated", "unknown", "waived", "met")
    return [[name, number] for name in order if (number := getattr(counts, name))]


def _cells(figures: Iterable[Figure]) -> list[list[str]]:
    return [[value_text(figure), interval_text(figure)] for figure in figures]


def slices(table: SliceTable) -> Json:
    """One table of groups, with the places of its intervals in per cent of the width."""
    scale = plots.scale_of(figure for row in table.rows for figure in (row.parent, row.candidate))

    def span(figure: Figure) -> list[float]:
        return [scale.at(end) for end in (figure.low, figure.value, figure.high)] if isinstance(figure, Number) else []

    return {
        "title": table.title,
        "ticks": [[scale.at(tick), f"{tick * 100:g}"] for tick in scale.ticks()],
        "rows": [
            {
                "name": slice_words(row.slice),
                "images": plural(row.images, "image"),
                "parent": span(row.parent),
                "candidate": span(row.candidate),
                "cells": _cells((row.parent, row.candidate, row.loss)),
                "evidence": short(row.candidate.evidence),
            }
            for row in table.rows
        ],
    }


def curve(curve: Curve) -> Json:
    """One family of conditions."""
    return {
        "title": curve.title,
        "alt": plots.curve_words(curve),
        "rows": [
            {
                "name": condition_words(point.condition),
                "cells": _cells((point.parent, point.candidate, point.loss)),
                "weakest": slice_words(point.weakest),
                "weakest_cells": _cells((point.weakest_value,)),
                "evidence": short(point.candidate.evidence),
            }
            for point in curve.points
        ],
    }


def _about(metric: str) -> str:
    return condition_words(metric.partition(".")[2]) if is_score(metric) else metric_words(metric)


def rule(rule: RulePart) -> Json:
    """One rule and its lines; too many met ones are counted only."""
    held = [row for row in rule.rows if row.standing == "met"]
    rows = rule.rows if len(held) <= MANY else [row for row in rule.rows if row.standing != "met"]
    return {
        "left_out": f"{len(held)} more lines are met; the attached data hold them." if len(held) > MANY else "",
        "name": rule.rule + (" (warns only)" if rule.severity == "warn" else ""),
        "sentence": rule.sentence,
        "why": rule.why,
        "rows": [
            [
                row.standing,
                f"{slice_words(row.slice)}, {_about(row.metric)}",
                value_text(row.measured),
                interval_text(row.measured),
                f"{'at least' if row.bound == 'at_least' else 'at most'} {amount(row.limit, row.unit)}",
                str(row.measured.images),
                short(row.measured.evidence),
            ]
            for row in rows
        ],
    }


def framework(part: FrameworkPart) -> Json:
    """One framework with all its rows."""
    stale = " This data was checked too long ago." if part.stale else ""
    aside = ", ".join(f"{count.rows} {count.status.replace('_', ' ')}" for count in part.aside)
    return {
        "name": part.name,
        "headline": f"{part.headline}. Of all {len(part.rows)} rows, {part.by_whom}.",
        "standing": f"{part.standing} Version: {part.version}. Checked on {day(part.data_checked)}.{stale}",
        "counts": [[count.status.replace("_", " "), count.rows] for count in part.counts],
        "aside": f"Beside these: {aside}." if aside else "",
        "dates": [
            [
                d.part,
                "; ".join(f"{f.value} {f.label}" for f in d.dates)
                + (f". Disputed: {d.disputed}" if d.disputed else ""),
            ]
            for d in part.dates
        ],
        "rows": [
            [
                row.requirement,
                row.title,
                row.status.replace("_", " ")
                + (
                    f" (evidence: {row.evidence_status.replace('_', ' ')})" if row.status != row.evidence_status else ""
                ),
                row.words,
                " ".join(short(digest) for digest in row.records),
            ]
            for row in part.rows
        ],
    }


def people(report: Report) -> list[list[str]]:
    """Who submitted, approved and waived."""
    decision = report.decision
    rows = [[decision.submitter, "submitted", "", "", ""]] if decision.submitter else []
    rows += [[o.person, "approved", minute(o.at), o.comment, short(o.record)] for o in decision.approvals]
    rows += [
        [w.person, f"waived {w.rule} until {day(w.until)}", minute(w.at), w.reason, short(w.record)]
        for w in report.waivers
    ]
    return rows


def mark(report: Report) -> list[list[str]]:
    """The watermark, or nothing."""
    if report.watermark is None:
        return []
    found = [[r.title, f"{value_text(r.measured)} ({interval_text(r.measured)})"] for r in report.watermark.readings]
    return [*([fact.label, fact.value] for fact in report.watermark.facts), *found, ["Note", report.watermark.note]]


def run(row: EvidenceRow) -> Json:
    """One line of the evidence index."""
    return {
        "name": f"{row.check}, version {row.version}",
        "short": short(row.record),
        "facts": [
            ["Record", row.record],
            ["Images", f"{row.dataset}, {plural(row.dataset_images, 'image')}, {row.dataset_digest}"],
            ["Parameters", "; ".join(f"{fact.label} = {fact.value}" for fact in row.parameters) or "none"],
            ["Seed and alpha", f"{row.seed}; {row.alpha} for each end of an interval"],
            ["Readings", f"{row.readings}, of which {row.unmeasured} unmeasured"],
            ["Run", f"{minute(row.started)} to {minute(row.finished)}"],
            ["Good until", day(row.expires) + (" (expired)" if row.expired else "")],
            ["Environment", "; ".join([row.code, *(f"{f.label} {f.value}" for f in row.environment)])],
        ],
    }
