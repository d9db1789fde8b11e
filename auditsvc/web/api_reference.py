"""The API reference (Redoc over the OpenAPI document), the list of error codes, and static files.

Redoc is part of the package, so the page works offline and loads nothing from other hosts.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from auditsvc.errors import NotFound
from auditsvc.web import rendering
from auditsvc.web.auth.authentication import Router
from auditsvc.web.problems import all_codes

router = Router(tags=["operations"])

_STATIC = {path.name: path for path in (rendering.HERE / "static").iterdir() if path.is_file()}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}

REDOC_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'"
)
"""Redoc writes its styles into the page, and searches in a worker that it makes from a blob."""


@router.get("/openapi.json", needs="anyone", summary="Get the OpenAPI document", response_class=JSONResponse)
async def get_openapi(request: Request) -> dict[str, Any]:
    """The OpenAPI 3.1 document of this API."""
    found: dict[str, Any] = request.app.openapi()
    return found


@router.get("/docs", needs="anyone", include_in_schema=False)
async def api_reference(request: Request) -> HTMLResponse:
    """The OpenAPI document as a page."""
    found = rendering.page(request, "docs.html", "/docs")
    found.headers["content-security-policy"] = REDOC_POLICY
    return found


@router.get("/problems", needs="anyone", include_in_schema=False)
async def problem_types(request: Request) -> HTMLResponse:
    """Every error code with its explanation: the target of ``type`` in Problem Details."""
    codes = [(code, status, meaning) for code, (status, meaning) in all_codes().items()]
    return rendering.page(request, "problem_types.html", "/docs", codes=codes)


@router.get("/static/{name}", needs="anyone", include_in_schema=False)
async def static_file(name: str) -> Response:
    """A style sheet, script or icon of a fixed set, so that no path leads to another file."""
    if name not in _STATIC:
        raise NotFound(f"there is no static file {name}")
    path = _STATIC[name]
    return FileResponse(path, media_type=_TYPES[path.suffix])
