"""The API's own page, made from its OpenAPI document: works offline, loads nothing from elsewhere, needs no script."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from auditsvc.api import rendering
from auditsvc.api.describing import groups_of, roles_of, shapes_of
from auditsvc.api.problems import all_codes
from auditsvc.api.roles import RoleRoute
from auditsvc.errors import NotFound

router = APIRouter(route_class=RoleRoute, tags=["operation"])

_STATIC = {path.name: path for path in (rendering.HERE / "static").iterdir() if path.is_file()}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


@router.get("/openapi.json", summary="This API for programs", response_class=JSONResponse)
async def document(request: Request) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    found: dict[str, Any] = request.app.openapi()
    return found


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The document as a page."""
    found = request.app.openapi()
    return rendering.page(
        request,
        "docs.html",
        "/docs",
        info=found["info"],
        openapi=found["openapi"],
        groups=groups_of(found, str(request.base_url).rstrip("/")),
        shapes=shapes_of(found),
        roles=roles_of(found),
        codes=[(code, status, words) for code, (status, words) in all_codes().items()],
    )


@router.get("/static/{name}", include_in_schema=False)
async def static(name: str) -> Response:
    """A style sheet, a script or the icon; a fixed set of files, so that no path leads anywhere else."""
    if name not in _STATIC:
        raise NotFound(f"there is no {name}")
    path = _STATIC[name]
    return FileResponse(path, media_type=_TYPES[path.suffix])
