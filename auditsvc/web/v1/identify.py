"""Whose model is this?  A found file, or its answers to our pictures, against everything that was marked here.

For auditors only: what matches names recipients, and whoever may ask freely can try out how to get a mark off.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from auditsvc.web.authentication import site_of
from auditsvc.web.bundles import tar_of
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

if TYPE_CHECKING:
    from auditsvc.services.tracing import TraceResult

router = APIRouter(route_class=RoleRoute, tags=["releases"])

_BINARY = {"schema": {"type": "string", "format": "binary"}}


class Trace(BaseModel):
    """A copy whose mark was found; `p` of this key alone."""

    model: str
    version: str
    recipient: str
    standing: str
    z: float
    log10_p: float


class Answer(BaseModel):
    """`MATCH`, `INCONCLUSIVE` or `NO EVIDENCE`, in words too; there is no "not ours"."""

    verdict: str
    sentence: str
    log10_p: float
    tried: int
    dispute: bool
    matches: list[Trace]
    untried: list[str]


@router.post(
    "/v1/identify",
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY}}},
    summary="Whose model is this?",
)
async def identify(request: Request) -> Answer:
    """Send a safetensors or ONNX file; it is compared with every marked version and never stored."""
    from auditsvc.services.tracing import identify_file

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        path = Path(scratch) / "found"
        await _received(request, path)
        named = path.rename(path.with_suffix(_suffix(path)))
        return _answer(await run_in_threadpool(identify_file, site.ctx, named))


@router.post(
    "/v1/identify/answers",
    openapi_extra={"requestBody": {"required": True, "content": {"text/csv": {"schema": {"type": "string"}}}}},
    summary="Whose model answers like this?",
)
async def identify_by_answers(request: Request) -> Answer:
    """Send `answers.csv` of `GET /v1/identify/queries`, filled in with a suspect's answers."""
    from auditsvc.services.tracing import identify_answers

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        path = Path(scratch) / "answers.csv"
        await _received(request, path)
        return _answer(await run_in_threadpool(identify_answers, site.ctx, path))


@router.get(
    "/v1/identify/queries",
    response_class=Response,
    responses={200: {"content": {"application/x-tar": _BINARY}}},
    summary="Pictures to ask a suspect",
)
def queries(
    request: Request,
    model: Annotated[str | None, Query(max_length=128, description="Only those of this model.")] = None,
    version: Annotated[str | None, Query(max_length=20, description="Only those of this version.")] = None,
) -> Response:
    """A tar of `queries/`: pictures, and `answers.csv` to be filled in with a label, or a number for each class."""
    from auditsvc.services.tracing import export_query_set, queries_for

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        export_query_set(queries_for(site.ctx, model, version), Path(scratch) / "queries")
        tar = b"".join(tar_of(Path(scratch), ("queries",)))
    headers = {"content-disposition": 'attachment; filename="queries.tar"'}
    return Response(tar, media_type="application/x-tar", headers=headers)


async def _received(request: Request, path: Path) -> None:
    with path.open("wb") as file:
        async for chunk in request.stream():
            await run_in_threadpool(file.write, chunk)


def _suffix(path: Path) -> str:
    """Safetensors start with the length of their header and a brace; what else may come is ONNX."""
    with path.open("rb") as file:
        return ".safetensors" if file.read(9)[8:] == b"{" else ".onnx"


def _answer(found: TraceResult) -> Answer:
    return Answer.model_validate(found.model_dump())
