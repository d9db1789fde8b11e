"""What the paper template prints beside each chart, and of the losses that stand out; finished text."""

from __future__ import annotations

from typing import Any

from auditsvc.compliance.figures import Figure
from auditsvc.compliance.model import Report
from auditsvc.compliance.renderings import charts
from auditsvc.compliance.renderings.printed import short
from auditsvc.compliance.views import ConfidenceBin, ExemplarsPart, SuggestedPart, Triage
from auditsvc.compliance.words import interval_text, plain, slice_words, value_text

Json = dict[str, Any]


def _cell(figure: Figure) -> list[str]:
    return [value_text(figure), interval_text(figure)]


def harm(found: Triage) -> Json:
    """The losses that stand out, most certain first."""
    return {
        "words": harm_words(found),
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


def harm_words(found: Triage) -> str:
    """What the list of losses that stand out is, and is not."""
    if not found.looked_at:
        return ""
    if not found.rows:
        return f"None of {found.looked_at} losses of groups under all conditions stands out from chance."
    return (
        f"{found.found} of {found.looked_at} losses, of every group under every condition, stand out; of these "
        f"{100 * found.chance:g}\u00a0% may be chance. Groups are ranked by what they lose at the least, not by the "
        "estimate. This says where to look; what blocks is said by the rules."
    )


def suggested(found: SuggestedPart | None) -> Json:
    """The groups that a search suggests."""
    return {
        "words": suggested_words(found) if found else "",
        "rows": [
            [row.expression, *_cell(row.found), *_cell(row.held), str(row.held.images), short(row.held.evidence)]
            for row in (found.rows if found else ())
        ],
    }


def suggested_words(found: SuggestedPart) -> str:
    """What suggestions are, and are not."""
    if not found.rows:
        return f"A search among {found.tried} groups suggests none."
    return (
        f"Suggested by a search among {found.tried} groups on {found.images_found} of the images; what a search finds, "
        f"it flatters, so the loss on the other {found.images_held} is told beside it. Nothing is judged by these: a "
        "policy that names a group judges it, on other images."
    )


def exemplars(found: ExemplarsPart | None) -> Json:
    """What several seeds of the recipe change alike."""
    return {
        "words": found.words if found else "",
        "record": short(found.evidence) if found else "",
        "rows": [
            [row.image, row.target, row.parent, row.candidates, f"{row.agreed} of {found.seeds}", ", ".join(row.slices)]
            for row in (found.rows if found else ())
            if found
        ],
    }


def rate_rows(report: Report) -> list[list[Any]]:
    """The rates of each group: the candidate's with its interval, and what it is a share of, beside the parent's."""
    return [
        [
            slice_words(row.slice),
            *([value_text(own), f"{interval_text(own)}; of {own.images}; parent {value_text(dense)}"]
              for own, dense in zip(row.candidate, row.parent, strict=True)),
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
        "title": "Confidence",
        "lead": "How often answers of each confidence are right. On the diagonal a model is right as often as it "
        "says; under it, it is too sure of itself.",
        "file": "reliability.svg",
        "alt": charts.reliability_words(found),
        "head": ["Candidate says", "is right", "Parent says", "is right", "Evidence"],
        "rows": [_bin(own, dense) for own, dense in found.bins()],
    }


def _bin(own: ConfidenceBin | None, dense: ConfidenceBin | None) -> list[Any]:
    cells = [*_said(own), *_said(dense)]
    known = own or dense
    return [cells[0][0], *cells[1:], short(known.right.evidence) if known else ""]


def _said(one: ConfidenceBin | None) -> list[list[str]]:
    return [["–", ""], ["–", ""]] if one is None else [[value_text(one.told), ""], _cell(one.right)]


def _frontier(report: Report) -> Json:
    if not report.frontier:
        return {}
    return {
        "title": "Other candidates of this parent",
        "lead": "What each step of compression costs, on unchanged images. Filled: approved. This report is about the "
        "candidate with the ring.",
        "file": "frontier.svg",
        "alt": charts.frontier_words(report.frontier),
        "head": ["Version", "Recipe", "Weights left", "Score", "Evidence"],
        "rows": [
            [
                f"{point.version}, {point.outcome}" + (" (this one)" if point.here else ""),
                [point.recipe, ""],
                [plain(point.kept), ""],
                _cell(point.score),
                short(point.score.evidence),
            ]
            for point in report.frontier
        ],
    }
