"""The page of reports, newest first, in every format that was written, and the report files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Path, Request
from starlette.responses import HTMLResponse, Response

from auditsvc.errors import NotFound
from auditsvc.records import Decision, Name, Submission
from auditsvc.services.decisions import report_folder
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.rendering import page
from auditsvc.web.v1.releases import REPORT_POLICY

router = Router(include_in_schema=False)

SHOWN = 100
MEDIA_TYPES = {
    ".html": "text/html",
    ".pdf": "application/pdf",
    ".json": "application/json",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".zip": "application/zip",
    ".xml": "application/xml",
    ".sarif": "application/sarif+json",
}
"""Media types by file extension; other files in the folder are not served."""

HIDDEN = ("pictures.json",)


@dataclass(frozen=True)
class ReportFiles:
    """The report files of one decision."""

    submission: Submission
    decision: Decision
    folder: str
    files: tuple[str, ...]


@router.get("/reports", needs="reader")
def reports_page(request: Request) -> HTMLResponse:
    """Every version that has a report in this store."""
    site = site_of(request)
    found = []
    for _, item in site.ledger.page(Submission, limit=SHOWN):
        for decision in reversed(site.ledger.find(Decision, item.candidate)):
            folder = report_folder(site.folder, decision.digest, item.model, item.version)
            files = tuple(
                sorted(one.name for one in folder.glob("*.*") if one.suffix in MEDIA_TYPES and one.name not in HIDDEN)
            )
            if files:
                found.append(ReportFiles(item, decision, folder.name, files))
    return page(request, "reports.html", "/reports", reports=found)


@router.get("/reports/{model}/{version}/{folder}/{file}", needs="reader")
def report_file(
    request: Request,
    model: Annotated[Name, Path()],
    version: Annotated[str, Path(pattern="^[1-9][0-9]*$")],
    folder: Annotated[str, Path(pattern="^[0-9a-f]{16}$")],
    file: Annotated[str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")],
) -> Response:
    """One file of a report; an HTML report runs in a sandbox."""
    place = site_of(request).folder / "reports" / model / version / folder
    names = {one.name: one for one in place.glob("*.*") if one.suffix in MEDIA_TYPES} if place.is_dir() else {}
    if file not in names:
        raise NotFound(f"there is no report {file} of {model} version {version} in this store")
    kind = MEDIA_TYPES[names[file].suffix]
    shown = kind in ("text/html", "application/pdf")
    headers = {"content-security-policy": REPORT_POLICY} if kind == "text/html" else {}
    if not shown:
        headers["content-disposition"] = f'attachment; filename="{model}-{version}-{file}"'
    return Response(names[file].read_bytes(), media_type=kind, headers=headers)
