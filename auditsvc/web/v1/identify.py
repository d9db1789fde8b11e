"""Trace a model by its watermark: from a file, or from its predictions for the query images.

Only auditors can: a match names the recipient, and unlimited queries would help an attacker remove a watermark.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from auditsvc.records import TraceResult
from auditsvc.web.auth.authentication import BINARY, Router, site_of
from auditsvc.web.state import ProjectState
from auditsvc.web.v1.uploads import save_body, tar_of

router = Router(tags=["releases"])


@router.post("/v1/identify", needs="auditor", takes={"application/octet-stream": BINARY}, summary="Trace a model file")
async def trace_file(request: Request) -> TraceResult:
    """Send a safetensors or ONNX file. It is compared with every watermarked version and not stored."""
    from auditsvc.services.tracing import identify_file

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        path = Path(scratch) / "found"
        await save_body(request, path)
        named = path.rename(path.with_suffix(_suffix(path)))
        return await run_in_threadpool(identify_file, site.ctx, named)


@router.post(
    "/v1/identify/answers",
    needs="auditor",
    takes={"text/csv": {"schema": {"type": "string"}}},
    summary="Trace predictions",
)
async def trace_predictions(request: Request) -> TraceResult:
    """Send `answers.csv` of `GET /v1/identify/queries`, filled in with the predictions of the suspect model."""
    from auditsvc.services.tracing import identify_answers

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        path = Path(scratch) / "answers.csv"
        await save_body(request, path)
        return await run_in_threadpool(identify_answers, site.ctx, path)


@router.get(
    "/v1/identify/queries", needs="auditor", sends={"application/x-tar": BINARY}, summary="Download query images"
)
def download_queries(
    request: Request,
    model: Annotated[str | None, Query(max_length=128, description="Only queries of this model.")] = None,
    version: Annotated[str | None, Query(max_length=20, description="Only queries of this version.")] = None,
) -> Response:
    """A tar of `queries/`: images, and `answers.csv` to fill in with a label, or with one score per class."""
    from auditsvc.services.tracing import export_query_set, queries_for

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        export_query_set(queries_for(site.ctx, model, version), Path(scratch) / "queries")
        tar = b"".join(tar_of(Path(scratch), ("queries",)))
    headers = {"content-disposition": 'attachment; filename="queries.tar"'}
    return Response(tar, media_type="application/x-tar", headers=headers)


def _suffix(path: Path) -> str:
    """A safetensors file starts with the length of its header and a brace; every other file is read as ONNX."""
    with path.open("rb") as file:
        return ".safetensors" if file.read(9)[8:] == b"{" else ".onnx"
