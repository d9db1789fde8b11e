"""Every form of a report by name, for a command line, an API and a release folder.

One report, many forms.  Each function takes a ``Report`` and gives text or bytes; none reads anything else.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from auditsvc.compliance.render.html import render_html, render_pdf
from auditsvc.compliance.render.markdown import render_annex_iv, render_annex_v, render_card
from auditsvc.compliance.render.tables import (
    render_assessments_csv,
    render_json,
    render_junit,
    render_oscal,
    render_rules_csv,
)
from auditsvc.compliance.report.report_model import Report
from auditsvc.errors import InvalidInput
from auditsvc.records import canonical_json


@dataclass(frozen=True)
class Format:
    """A form of the report: its file, its media type, and what makes it."""

    file: str
    media_type: str
    render: Callable[[Report], bytes]


def _text(render: Callable[[Report], str]) -> Callable[[Report], bytes]:
    return lambda report: render(report).encode("utf-8")


def _bom(report: Report) -> bytes:
    """The CycloneDX document, byte for byte the predicate that a release signs."""
    return canonical_json(report.bom)


def _oscal(report: Report) -> bytes:
    """The bundle as a zip file with fixed times, so that it is the same each time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in sorted(render_oscal(report).items()):
            bundle.writestr(zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


FORMATS: dict[str, Format] = {
    "html": Format("report.html", "text/html; charset=utf-8", _text(render_html)),
    "pdf": Format("report.pdf", "application/pdf", render_pdf),
    "json": Format("report.json", "application/json", render_json),
    "rules-csv": Format("rules.csv", "text/csv; charset=utf-8", _text(render_rules_csv)),
    "assessments-csv": Format("assessments.csv", "text/csv; charset=utf-8", _text(render_assessments_csv)),
    "junit": Format("junit.xml", "application/xml", _text(render_junit)),
    "card": Format("model-card.md", "text/markdown; charset=utf-8", _text(render_card)),
    "bom": Format("bom.cdx.json", "application/vnd.cyclonedx+json; version=1.6", _bom),
    "oscal": Format("oscal.zip", "application/zip", _oscal),
    "annex-iv": Format("annex-iv-draft.md", "text/markdown; charset=utf-8", _text(render_annex_iv)),
    "annex-v": Format("annex-v-form.md", "text/markdown; charset=utf-8", _text(render_annex_v)),
}
"""All forms; ``pdf`` needs the extra of that name."""


def render(report: Report, name: str) -> bytes:
    """One form of the report.

    Raises:
        InvalidInput: no form has this name.
        Unavailable: the form needs a library that is not installed.
    """
    if name not in FORMATS:
        raise InvalidInput(f"no report format {name!r}; there are {', '.join(FORMATS)}")
    return FORMATS[name].render(report)


def render_files(report: Report, names: Iterable[str] = FORMATS) -> dict[str, bytes]:
    """Several forms by file name.  Raises as ``render`` does."""
    return {FORMATS[name].file if name in FORMATS else name: render(report, name) for name in names}
