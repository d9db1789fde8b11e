"""Trace a model by its watermark: from a file, or from its predictions for the query images.

Only auditors can: a match names the recipient, and unlimited queries would help an attacker remove a watermark.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from auditsvc.web.auth.authentication import BINARY, Router, site_of
from auditsvc.web.state import ProjectState
from auditsvc.web.v1.uploads import save_body, tar_of

if TYPE_CHECKING:
    from auditsvc.services.tracing import TraceResult

router = Router(tags=["releases"])


class TraceMatch(BaseModel):
    """A copy whose watermark was detected; `log10_p` is for this key alone."""

    model: str
    version: str
    recipient: str
    standing: str
    z: float
    log10_p: float


class TraceResponse(BaseModel):
    """`MATCH`, `INCONCLUSIVE` or `NO EVIDENCE`, with a sentence. No result says that a model is not a copy."""

    verdict: str
    sentence: str
    log10_p: float
    tried: int
    dispute: bool
    matches: list[TraceMatch]
    untried: list[str]


@router.post("/v1/identify", needs="auditor", takes={"application/octet-stream": BINARY}, summary="Trace a model file")
async def trace_file(request: Request) -> TraceResponse:
    """Send a safetensors or ONNX file. It is compared with every watermarked version and not stored."""
    from auditsvc.services.tracing import identify_file

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        path = Path(scratch) / "found"
        await save_body(request, path)
        named = path.rename(path.with_suffix(_suffix(path)))
        return _view(await run_in_threadpool(identify_file, site.ctx, named))


@router.post(
    "/v1/identify/answers",
    needs="auditor",
    takes={"text/csv": {"schema": {"type": "string"}}},
    summary="Trace predictions",
)
async def trace_predictions(request: Request) -> TraceResponse:
    """Send `answers.csv` of `GET /v1/identify/queries`, filled in with the predictions of the suspect model."""
    from auditsvc.services.tracing import identify_answers

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        path = Path(scratch) / "answers.csv"
        await save_body(request, path)
        return _view(await run_in_threadpool(identify_answers, site.ctx, path))


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


def _view(found: TraceResult) -> TraceResponse:
    return TraceResponse.model_validate(found.model_dump())
