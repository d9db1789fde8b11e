"""Everything that the paper template prints, as finished text."""

from __future__ import annotations

from typing import Any

from auditsvc.compliance.model import OpenItem, Report
from auditsvc.compliance.parts import Picture
from auditsvc.compliance.renderings.pages import chart_pages, exemplars, harm, rate_rows, suggested
from auditsvc.compliance.renderings.printed import (
    counted,
    curve,
    framework,
    mark,
    people,
    rule,
    run,
    short,
    slices,
)
from auditsvc.compliance.views import Example
from auditsvc.compliance.words import change_words, day, minute

Json = dict[str, Any]


def picture_name(number: int, picture: Picture) -> str:
    """The file that the template shows for a picture."""
    return f"picture-{number}.{'jpg' if picture.media_type == 'image/jpeg' else 'png'}"


def example_name(number: int, one: Example) -> str:
    """The file that the template shows for an example."""
    return f"example-{number}.{'jpg' if one.media_type == 'image/jpeg' else 'png'}"


def view(report: Report) -> Json:
    """Everything that the template prints, as finished text."""
    return {
        **_first_page(report),
        "slices": [slices(table) for table in report.slices[:1]],
        "flips": [
            [
                f.title,
                str(f.images),
                str(f.broke),
                str(f.mended),
                "–" if f.other is None else str(f.other),
                short(f.evidence),
            ]
            for f in report.flips
        ],
        "ways": list(change_words(report.subject.task)),
        "harm": harm(report.triage),
        "suggested": suggested(report.suggested),
        "exemplars": exemplars(report.exemplars),
        "pictures": [_picture(number, one) for number, one in enumerate(report.pictures)],
        "curves": [curve(one) | {"strip": _strip(one.family, report)} for one in report.curves],
        "rates": rate_rows(report),
        "charts": chart_pages(report),
        "related": [[fact.value, fact.label, short(fact.label)] for fact in report.related],
        "rules": [rule(one) for one in report.rules],
        "frameworks": [framework(part) for part in report.frameworks],
        "people": people(report),
        "papers": [[p.title, p.kind, p.person, p.reviewer or "nobody else", short(p.record)] for p in report.papers],
        "changes": [[row.label, row.before, row.after] for row in report.changes],
        "lineage": _lineage(report),
        "mark": mark(report),
        "steps": [
            [step.step, "held" if step.held else "did not hold", step.detail]
            for step in (report.verification.steps if report.verification else ())
        ],
        "verdict": report.verification.verdict if report.verification else "not verified here",
        "evidence": [run(row) for row in report.evidence],
        "glossary": [[fact.label, fact.value] for fact in report.glossary],
        "foot": f"Written by {report.tool} on {minute(report.at)}",
    }


def _first_page(report: Report) -> Json:
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
        "byline": f"A pruned {subject.task} model, {short(subject.candidate)} · {day(report.at)}{until}",
        "use": [["For", subject.intended_use], ["Not for", subject.not_for]],
        "outcome": decision.outcome,
        "headline": decision.headline,
        "explanation": decision.explanation,
        "who": f"{who}{submitted} Judged on {day(decision.at)} under the policy “{decision.policy}”, "
        f"version {decision.policy_version}.",
        "counts": counted(summary.counts),
        "sentences": [[one.text, [short(digest) for digest in one.evidence]] for one in summary.sentences],
        "not_tested": list(summary.not_tested),
        "open": [_open(item) for item in summary.open_items[:6]],
        "more_open": max(0, len(summary.open_items) - 6),
        "where": [[fact.label, fact.value] for fact in report.where],
        "held": [f"{part.short}: {part.headline}." for part in report.frameworks],
        "law": [*report.law, "This report is no conformity assessment, no certificate and no legal advice."],
    }


def _open(item: OpenItem) -> list[str]:
    owner = f"{item.owner}, until {day(item.until)}" if item.until else "no owner"
    return [item.standing, item.rule, "; ".join(item.where), owner]


def _strip(family: str, report: Report) -> list[list[str]]:
    """The examples of one family: file, words for those who can't see it, title."""
    every = enumerate(report.examples)
    return [[example_name(number, one), one.alt, one.title] for number, one in every if one.family == family]


def _picture(number: int, one: Picture) -> list[str]:
    answers = f"parent {one.parent}, candidate {one.candidate}, truth {one.target}"
    return [picture_name(number, one), one.alt, one.change, answers, ", ".join(one.slices)]


def _lineage(report: Report) -> list[list[Any]]:
    found = report.lineage
    named = (("Parent", found.parent), ("Recipe", found.recipe), ("Candidate", found.candidate))
    return [[name, [[fact.label, fact.value] for fact in facts]] for name, facts in named]
