"""The report as PDF: tagged, archivable, with the report's JSON attached, typeset by Typst (the extra ``pdf``).

The template ``report.typ`` prints a JSON context of finished text: rounding and selection happen here, and text
reaches the page as data and never as Typst code.  The file declares PDF/A-3a and PDF/UA-1; Typst checks what it can,
such as alternative texts; no other validator has been run.  The same report gives the same bytes: only bundled fonts
are used, and the time is that of the report.

Reference: ISO 19005-3:2012 (PDF/A-3), ISO 14289-1:2014 (PDF/UA-1).
"""

from __future__ import annotations

import base64
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from auditsvc.compliance.render import charts
from auditsvc.compliance.render.charts import standalone
from auditsvc.compliance.render.tables import render_json
from auditsvc.compliance.report.report_model import (
    ConfidenceBin,
    Curve,
    EvidenceRow,
    Example,
    ExemplarsPart,
    FrameworkPart,
    OpenItem,
    Picture,
    Report,
    RulePart,
    SliceRow,
    SliceTable,
    SuggestedPart,
    Triage,
)
from auditsvc.compliance.report.wording import (
    Counts,
    Figure,
    Number,
    amount,
    change_words,
    day,
    interval_text,
    minute,
    plain,
    plural,
    slice_words,
    value_text,
)
from auditsvc.errors import Unavailable
from auditsvc.resources import resource_dir

Json = dict[str, Any]

MANY = 40
"""A rule with more met evaluations than this prints only the others and a count."""


def short(digest: str | None) -> str:
    """The first twelve digits of a digest."""
    return (digest or "").removeprefix("sha256:")[:12]


def counted(counts: Counts) -> list[list[Any]]:
    """Names and numbers of the segments of the counts bar."""
    order = ("violated", "unknown", "waived", "met")
    return [[name, number] for name in order if (number := getattr(counts, name))]


def _cells(figures: Iterable[Figure]) -> list[list[str]]:
    return [[value_text(figure), interval_text(figure)] for figure in figures]


def slices(table: SliceTable) -> Json:
    """One table of groups, each row with its intervals as SVG and as text."""
    axis = charts.score_axis(figure for row in table.rows for figure in (row.parent, row.candidate))

    def drawn(row: SliceRow) -> list[str]:
        chart = charts.interval_row(row.parent, row.candidate, axis, slice_words(row.slice))
        return [charts.standalone(chart).decode(), chart.text]

    return {
        "title": table.title,
        "ticks": [[axis.at(tick), f"{tick * 100:g}"] for tick in axis.ticks()],
        "rows": [
            {
                "name": slice_words(row.slice),
                "images": plural(row.images, "image"),
                "chart": drawn(row),
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
        "alt": charts.curve_chart(curve).text,
        "rows": [
            {
                "name": point.title,
                "cells": _cells((point.parent, point.candidate, point.loss)),
                "weakest": slice_words(point.weakest),
                "weakest_cells": _cells((point.weakest_value,)),
                "evidence": short(point.candidate.evidence),
            }
            for point in curve.points
        ],
    }


def _class_of(figure: Figure) -> list[str]:
    return [f"class {figure.which}"] if isinstance(figure, Number) and figure.which else []


def rule(rule: RulePart) -> Json:
    """One rule and its evaluations; many met ones are only counted."""
    met = [row for row in rule.rows if row.status == "met"]
    rows = rule.rows if len(met) <= MANY else [row for row in rule.rows if row.status != "met"]
    return {
        "left_out": f"{len(met)} more evaluations are met; see the attached JSON." if len(met) > MANY else "",
        "name": rule.rule + (" (warning only)" if rule.severity == "warn" else ""),
        "sentence": rule.sentence,
        "why": rule.why,
        "rows": [
            [
                row.status,
                ", ".join([slice_words(row.slice), *_class_of(row.measured), row.title]),
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
    stale = " These data may be out of date." if part.stale else ""
    not_counted = ", ".join(f"{count.rows} {count.status.replace('_', ' ')}" for count in part.not_counted)
    return {
        "name": part.name,
        "headline": f"{part.headline}. Of all {len(part.rows)} requirements, {part.assessability}.",
        "standing": f"{part.standing} Version: {part.version}. Checked on {day(part.data_checked)}.{stale}",
        "counts": [[count.status.replace("_", " "), count.rows] for count in part.counts],
        "not_counted": f"Not counted: {not_counted}." if not_counted else "",
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
                row.message,
                " ".join(short(digest) for digest in row.records),
            ]
            for row in part.rows
        ],
    }


def people(report: Report) -> list[list[str]]:
    """Submission, approvals and waivers."""
    decision = report.decision
    rows = [[decision.submitter, "submitted", "", "", ""]] if decision.submitter else []
    rows += [[o.person, "approved", minute(o.at), o.comment, short(o.record)] for o in decision.approvals]
    rows += [
        [w.person, f"waived {w.rule} until {day(w.until)}", minute(w.at), w.reason, short(w.record)]
        for w in report.waivers
    ]
    return rows


def mark(report: Report) -> list[list[str]]:
    """The watermark; empty without one."""
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
            ["Seed and alpha", f"{row.seed}; {row.alpha} for each end of the interval"],
            ["Readings", f"{row.readings}, {row.unmeasured} of them not measured"],
            ["Run", f"{minute(row.started)} to {minute(row.finished)}"],
            ["Valid until", day(row.expires) + (" (expired)" if row.expired else "")],
            ["Environment", "; ".join([row.code, *(f"{f.label} {f.value}" for f in row.environment)])],
        ],
    }


def _cell(figure: Figure) -> list[str]:
    return [value_text(figure), interval_text(figure)]


def harm(found: Triage) -> Json:
    """The significant losses, most certain first."""
    return {
        "message": found.message,
        "rows": [
            [
                slice_words(row.slice),
                *_cell(row.clean),
                *_cell(row.loss),
                row.title,
                str(row.conditions),
                short(row.loss.evidence),
            ]
            for row in found.rows
        ],
    }


def suggested(found: SuggestedPart | None) -> Json:
    """The groups suggested by slice discovery."""
    return {
        "message": found.message if found else "",
        "rows": [
            [
                row.expression,
                *_cell(row.search_loss),
                *_cell(row.held_out_loss),
                str(row.held_out_loss.images),
                short(row.held_out_loss.evidence),
            ]
            for row in (found.rows if found else ())
        ],
    }


def exemplars(found: ExemplarsPart | None) -> Json:
    """The images that several seeds of the recipe change in the same way."""
    return {
        "message": found.message if found else "",
        "record": short(found.evidence) if found else "",
        "rows": [
            [row.image, row.target, row.parent, row.candidates, f"{row.agreed} of {found.seeds}", ", ".join(row.slices)]
            for row in (found.rows if found else ())
            if found
        ],
    }


def rate_rows(report: Report) -> list[list[Any]]:
    """The rates of each group: the candidate with interval and number of images, and the parent."""
    return [
        [
            slice_words(row.slice),
            *([value_text(own), f"{interval_text(own)}; of {own.images}; parent {value_text(parent)}"]
              for own, parent in zip(row.candidate, row.parent, strict=True)),
            short(row.candidate[0].evidence),
        ]
        for row in report.rates
    ]  # fmt: skip


def chart_pages(report: Report) -> list[Json]:
    """Charts with the table of their numbers."""
    return [page for page in (_confidence(report), _frontier(report)) if page]


def _confidence(report: Report) -> Json:
    found = report.reliability
    if found is None:
        return {}
    return {
        "title": "Calibration",
        "lead": "Accuracy of answers by confidence. On the diagonal a model is calibrated; below it, it is "
        "overconfident.",
        "file": "reliability.svg",
        "alt": charts.reliability_chart(found).text,
        "head": ["Candidate confidence", "Accuracy", "Parent confidence", "Accuracy", "Evidence"],
        "rows": [_bin(own, parent) for own, parent in found.bins()],
    }


def _bin(own: ConfidenceBin | None, parent: ConfidenceBin | None) -> list[Any]:
    cells = [*_bin_cells(own), *_bin_cells(parent)]
    known = own or parent
    return [cells[0][0], *cells[1:], short(known.accuracy.evidence) if known else ""]


def _bin_cells(one: ConfidenceBin | None) -> list[list[str]]:
    return [["–", ""], ["–", ""]] if one is None else [[value_text(one.confidence), ""], _cell(one.accuracy)]


def _frontier(report: Report) -> Json:
    if not report.frontier:
        return {}
    return {
        "title": "Other candidates of this parent",
        "lead": "Score against compression, on unmodified images. Filled: approved. In a ring: the candidate of this "
        "report.",
        "file": "frontier.svg",
        "alt": charts.frontier_chart(report.frontier).text,
        "head": ["Version", "Recipe", "Remaining weights", "Score", "Evidence"],
        "rows": [
            [
                f"{point.version}, {point.outcome}" + (" (this one)" if point.subject else ""),
                [point.recipe, ""],
                [plain(point.weights), ""],
                _cell(point.score),
                short(point.score.evidence),
            ]
            for point in report.frontier
        ],
    }


def picture_name(number: int, picture: Picture) -> str:
    """The file name of a gallery image."""
    return f"picture-{number}.{'jpg' if picture.media_type == 'image/jpeg' else 'png'}"


def example_name(number: int, one: Example) -> str:
    """The file name of an example image."""
    return f"example-{number}.{'jpg' if one.media_type == 'image/jpeg' else 'png'}"


def typst_context(report: Report) -> Json:
    """The JSON context of the template: everything that it prints, as finished text."""
    return {
        **_first_page(report),
        "slices": [slices(table) for table in report.slices[:1]],
        "flips": [
            [
                f.title,
                str(f.images),
                str(f.regressed),
                str(f.improved),
                "–" if f.other is None else str(f.other),
                short(f.evidence),
            ]
            for f in report.flips
        ],
        "change_headings": list(change_words(report.subject.task)),
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
        "statements": [
            [p.title, p.kind, p.person, p.reviewer or "not reviewed", short(p.record)] for p in report.statements
        ],
        "changes": [[row.label, row.before, row.after] for row in report.changes],
        "lineage": _lineage(report),
        "mark": mark(report),
        "steps": [
            [step.step, "passed" if step.passed else "failed", step.detail]
            for step in (report.verification.steps if report.verification else ())
        ],
        "verdict": report.verification.verdict if report.verification else "not verified for this report",
        "evidence": [run(row) for row in report.evidence],
        "glossary": [[fact.label, fact.value] for fact in report.glossary],
        "foot": f"Generated by {report.tool} on {minute(report.at)}",
    }


def _first_page(report: Report) -> Json:
    subject, decision, summary = report.subject, report.decision, report.summary
    approved = " and ".join(one.person for one in decision.approvals)
    who = f"Approved by {approved} on {day(decision.approvals[-1].at)}." if approved else "Not approved."
    submitted = f" Submitted by {decision.submitter}." if decision.submitter else ""
    until = f" · evidence valid until {day(summary.evidence_expires)}" if summary.evidence_expires else ""
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
        "who": f"{who}{submitted} Decided on {day(decision.at)} under the policy “{decision.policy}”, "
        f"version {decision.policy_version}.",
        "counts": counted(summary.counts),
        "sentences": [[one.text, [short(digest) for digest in one.evidence]] for one in summary.sentences],
        "not_tested": list(summary.not_tested),
        "open": [_open(item) for item in summary.open_items[:6]],
        "more_open": max(0, len(summary.open_items) - 6),
        "where": [[fact.label, fact.value] for fact in report.where],
        "assessed": [f"{part.short}: {part.headline}." for part in report.frameworks],
        "law": [*report.law, "This report is not a conformity assessment, not a certificate and not legal advice."],
    }


def _open(item: OpenItem) -> list[str]:
    owner = f"{item.owner}, until {day(item.until)}" if item.until else "not waived"
    return [item.status, item.rule, "; ".join(item.affected), owner]


def _strip(family: str, report: Report) -> list[list[str]]:
    """The examples of one family: file, text alternative, title."""
    every = enumerate(report.examples)
    return [[example_name(number, one), one.alt, one.title] for number, one in every if one.family == family]


def _picture(number: int, one: Picture) -> list[str]:
    answers = f"parent {one.parent}, candidate {one.candidate}, truth {one.target}"
    return [picture_name(number, one), one.alt, one.change, answers, ", ".join(one.slices)]


def _lineage(report: Report) -> list[list[Any]]:
    found = report.lineage
    named = (("Parent", found.parent), ("Recipe", found.recipe), ("Candidate", found.candidate))
    return [[name, [[fact.label, fact.value] for fact in facts]] for name, facts in named]


def render_pdf(report: Report) -> bytes:
    """The report as PDF/A-3a and PDF/UA-1, with ``report.json`` attached.

    Raises:
        Unavailable: the extra ``pdf`` is not installed, or Typst refused the page.
    """
    try:
        import typst
    except ImportError as error:
        raise Unavailable("PDF needs Typst: pip install 'auditsvc[pdf]'") from error
    with tempfile.TemporaryDirectory(prefix="auditsvc-pdf-") as name:
        folder = Path(name)
        for file, data in _files(report).items():
            (folder / file).write_bytes(data)
        try:
            return typst.compile(
                folder / "main.typ",
                root=folder,
                format="pdf",
                ignore_system_fonts=True,
                pdf_standards=["a-3a", "ua-1"],
                timestamp=int(report.at.timestamp()),
            )
        except (typst.TypstError, RuntimeError) as error:
            raise Unavailable(f"Typst refused the report: {error}") from error


def _files(report: Report) -> dict[str, bytes]:
    """All files that the template reads, by name."""
    files = {picture_name(n, picture): base64.b64decode(picture.data) for n, picture in enumerate(report.pictures)}
    files |= {example_name(n, one): base64.b64decode(one.data) for n, one in enumerate(report.examples)}
    files |= {f"curve-{n}.svg": standalone(charts.curve_chart(curve)) for n, curve in enumerate(report.curves)}
    if report.reliability:
        files["reliability.svg"] = standalone(charts.reliability_chart(report.reliability))
    if report.frontier:
        files["frontier.svg"] = standalone(charts.frontier_chart(report.frontier))
    files["context.json"] = json.dumps(typst_context(report), ensure_ascii=False).encode()
    files["report.json"] = render_json(report)
    files["main.typ"] = (resource_dir("templates") / "report.typ").read_bytes()
    return files
