"""Everything that the paper template prints, as finished text: no rounding and no choice is left to Typst."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from auditsvc.compliance.figures import Counts, Figure, Number
from auditsvc.compliance.model import FrameworkPart, Report
from auditsvc.compliance.parts import Curve, EvidenceRow, Picture, RulePart, SliceTable
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


def picture_name(number: int, picture: Picture) -> str:
    """The file that the template shows for a picture."""
    return f"picture-{number}.{'jpg' if picture.media_type == 'image/jpeg' else 'png'}"


def _short(digest: str | None) -> str:
    return (digest or "").removeprefix("sha256:")[:12]


def view(report: Report) -> Json:
    """Everything that the template prints, as finished text."""
    subject, decision, summary = report.subject, report.decision, report.summary
    approved = " and ".join(one.person for one in decision.approvals)
    who = f"Approved by {approved} on {day(decision.approvals[-1].at)}." if approved else "Nobody has approved it."
    submitted = f" Submitted by {decision.submitter}." if decision.submitter else ""
    until = f" · evidence good until {day(summary.evidence_expires)}" if summary.evidence_expires else ""
    return {
        "title": f"{decision.headline}: {subject.model} version {subject.version}",
        "model": subject.model,
        "version": f"version {subject.version}",
        "date": [report.at.year, report.at.month, report.at.day],
        "byline": f"A pruned {subject.task} model, {_short(subject.candidate)} · {day(report.at)}{until}",
        "use": [["For", subject.intended_use], ["Not for", subject.not_for]],
        "outcome": decision.outcome,
        "headline": decision.headline,
        "explanation": decision.explanation,
        "who": f"{who}{submitted} Judged on {day(decision.at)} under the policy “{decision.policy}”, "
        f"version {decision.policy_version}.",
        "counts": _counts(summary.counts),
        "sentences": [[one.text, [_short(digest) for digest in one.evidence]] for one in summary.sentences],
        "not_tested": list(summary.not_tested),
        "open": [
            [
                item.standing,
                item.rule,
                "; ".join(item.where),
                f"{item.owner}, until {day(item.until)}" if item.until else "no owner",
            ]
            for item in summary.open_items
        ],
        "where": [[fact.label, fact.value] for fact in report.where],
        "held": [f"{part.short}: {part.headline}." for part in report.frameworks],
        "law": [*report.law, "This report is no conformity assessment, no certificate and no legal advice."],
        "slices": [_slices(table) for table in report.slices[:1]],
        "flips": [[f.title, str(f.broke), str(f.mended), str(f.other), _short(f.evidence)] for f in report.flips],
        "pictures": [
            [
                picture_name(n, p),
                p.alt,
                p.change,
                f"parent {p.parent}, candidate {p.candidate}, truth {p.target}",
                ", ".join(p.slices),
            ]
            for n, p in enumerate(report.pictures)
        ],
        "curves": [_curve(curve) for curve in report.curves],
        "rules": [_rule(rule) for rule in report.rules],
        "frameworks": [_framework(part) for part in report.frameworks],
        "people": _people(report),
        "papers": [[p.title, p.kind, p.person, p.reviewer or "nobody else", _short(p.record)] for p in report.papers],
        "changes": [[row.label, row.before, row.after] for row in report.changes],
        "lineage": [
            [name, [[fact.label, fact.value] for fact in facts]]
            for name, facts in (
                ("Parent", report.lineage.parent),
                ("Recipe", report.lineage.recipe),
                ("Candidate", report.lineage.candidate),
            )
        ],
        "mark": _mark(report),
        "steps": [
            [step.step, "held" if step.held else "did not hold", step.detail]
            for step in (report.verification.steps if report.verification else ())
        ],
        "verdict": report.verification.verdict if report.verification else "not verified here",
        "evidence": [_run(row) for row in report.evidence],
        "glossary": [[fact.label, fact.value] for fact in report.glossary],
        "foot": f"Written by {report.tool} on {minute(report.at)}",
    }


def _counts(counts: Counts) -> list[list[Any]]:
    order = ("violated", "unknown", "waived", "met")
    return [[name, number] for name in order if (number := getattr(counts, name))]


def _cells(figures: Iterable[Figure]) -> list[list[str]]:
    return [[value_text(figure), interval_text(figure)] for figure in figures]


def _slices(table: SliceTable) -> Json:
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
                "evidence": _short(row.candidate.evidence),
            }
            for row in table.rows
        ],
    }


def _curve(curve: Curve) -> Json:
    return {
        "title": curve.title,
        "alt": plots.curve_words(curve),
        "rows": [
            {
                "name": condition_words(point.condition),
                "cells": _cells((point.parent, point.candidate, point.loss)),
                "weakest": slice_words(point.weakest),
                "weakest_cells": _cells((point.weakest_value,)),
                "evidence": _short(point.candidate.evidence),
            }
            for point in curve.points
        ],
    }


def _about(metric: str) -> str:
    return condition_words(metric.partition(".")[2]) if is_score(metric) else metric_words(metric)


def _rule(rule: RulePart) -> Json:
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
                _short(row.measured.evidence),
            ]
            for row in rows
        ],
    }


def _framework(part: FrameworkPart) -> Json:
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
                " ".join(_short(digest) for digest in row.records),
            ]
            for row in part.rows
        ],
    }


def _people(report: Report) -> list[list[str]]:
    decision = report.decision
    rows = [[decision.submitter, "submitted", "", "", ""]] if decision.submitter else []
    rows += [[o.person, "approved", minute(o.at), o.comment, _short(o.record)] for o in decision.approvals]
    rows += [
        [w.person, f"waived {w.rule} until {day(w.until)}", minute(w.at), w.reason, _short(w.record)]
        for w in report.waivers
    ]
    return rows


def _mark(report: Report) -> list[list[str]]:
    if report.watermark is None:
        return []
    found = [[r.title, f"{value_text(r.measured)} ({interval_text(r.measured)})"] for r in report.watermark.readings]
    return [*([fact.label, fact.value] for fact in report.watermark.facts), *found, ["Note", report.watermark.note]]


def _run(row: EvidenceRow) -> Json:
    return {
        "name": f"{row.check}, version {row.version}",
        "short": _short(row.record),
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
