"""The OpenAPI document, the API reference, the list of error codes, and static files.

The document is FastAPI's, with roles, tokens, errors and links between operations added.  Redoc is part of the package,
so the reference works offline and loads nothing from other hosts.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response

from auditsvc.errors import NotFound
from auditsvc.records import Record, RevocationRequest, RollbackRequest
from auditsvc.web import rendering
from auditsvc.web.auth.authentication import Router
from auditsvc.web.auth.token_store import OPEN
from auditsvc.web.problems import MEDIA_TYPE, Problem, all_codes
from auditsvc.web.record_routes import PATHS

router = Router(tags=["operations"])

_STATIC = {path.name: path for path in (rendering.HERE / "static").iterdir() if path.is_file()}
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}

REDOC_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; worker-src blob:; frame-ancestors 'none'; base-uri 'none'"
)
"""Redoc writes its styles into the page, and searches in a worker that it makes from a blob."""


@router.get("/openapi.json", needs="anyone", summary="Get the OpenAPI document", response_class=JSONResponse)
async def get_openapi_document(request: Request) -> dict[str, Any]:
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


DESCRIPTION = """Every route needs the role in `x-role`; a token has one role, and `reader` is included in every role.
While the service is bound to loopback, readers on the same machine need no token.

Errors are Problem Details (RFC 9457) with a stable `code`; `/problems` explains each of them. Lists are paged by an
opaque `cursor`. A write with an `Idempotency-Key` can be repeated without being done twice."""

TAGS = (
    ("gate", "May this version be used?"),
    ("candidates", "Pruned models submitted for release, and their evidence."),
    ("decisions", "Decisions under a policy, approvals, objections and waivers."),
    ("releases", "Signed releases, their verification, revocation and rollback."),
    ("jobs", "Background jobs: create, follow, cancel, retry."),
    ("policies", "Policies and compliance frameworks."),
    ("statements", "Documents, questionnaire answers, change plans and change verdicts by named people."),
    ("incidents", "Serious incidents, their deadlines, and incident watches."),
    ("log", "The transparency log: checkpoints, proofs, tiles, keys."),
    ("tokens", "Access tokens."),
    ("webhooks", "Outgoing webhooks and their deliveries, and the MLflow webhook."),
    ("operations", "Health, metrics, and this document."),
)

_ERRORS = {
    "401": "No token, or an invalid one.",
    "403": "The token's role does not allow it.",
    "404": "Not found.",
    "429": "Too many requests; retry later.",
}

_LOOKUPS = ("/v1/gate", "/v1/log/inclusion", "/v1/log/consistency")
"""Operations that can answer 404 although they have no path parameter and no body."""

_CONFLICTING = (
    "/v1/log/checkpoint",
    "/v1/decisions/{digest}/release",
    "/v1/jobs/{id}/cancel",
    "/v1/jobs/{id}/retry",
)


def install(app: FastAPI) -> None:
    """Make ``app.openapi()`` return the finished document, built once."""

    def cached_document() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = cached_document  # type: ignore[method-assign]


def _document(app: FastAPI) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=DESCRIPTION,
        routes=app.router.routes,
        tags=[{"name": name, "description": words} for name, words in TAGS],
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
    )
    parts = made.setdefault("components", {})
    parts.setdefault("schemas", {})["Problem"] = Problem.model_json_schema()
    parts["schemas"].pop("HTTPValidationError", None)
    parts["schemas"].pop("ValidationError", None)
    named: tuple[type[Record], ...] = (*PATHS, RevocationRequest, RollbackRequest)
    for kind in named:
        _name_kind(parts["schemas"][kind.__name__], kind.kind)
    parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "auditsvc_..."}}
    for path, methods in made["paths"].items():
        for operation in methods.values():
            _declare_errors(path, operation)
    _link(made["paths"])
    return made


def _link(paths: dict[str, Any]) -> None:
    """Add OpenAPI links from every list to the operations on one of its records."""
    for path, methods in paths.items():
        parameter = "id" if path == "/v1/jobs" else "digest"
        inside = [(name, found) for name, found in paths.items() if name.startswith(f"{path}/{{{parameter}}}")]
        if "get" not in methods or not inside:
            continue
        links = methods["get"]["responses"]["200"].setdefault("links", {})
        for _, found in inside:
            for operation in found.values():
                name = operation["operationId"]
                links[name] = {"operationId": name, "parameters": {parameter: f"$response.body#/items/0/{parameter}"}}


def _name_kind(schema: dict[str, Any], kind: str) -> None:
    """Add ``kind``, which the canonical JSON has and which is not a field of the model."""
    schema["properties"] = {"kind": {"const": kind, "type": "string", "title": "Kind"}} | schema["properties"]
    schema["required"] = ["kind", *schema.get("required", ())]


def _declare_errors(path: str, operation: dict[str, Any]) -> None:
    """Declare every error of an operation as a problem."""
    responses = operation["responses"]
    errors = dict(_ERRORS) if operation["x-role"] not in OPEN else {}
    if operation["x-role"] == "hmac":
        errors["401"] = "The signature is missing or wrong."
    if "{" not in path and path not in _LOOKUPS and "requestBody" not in operation:
        errors.pop("404", None)
    if "requestBody" in operation or path in _CONFLICTING:
        errors["409"] = "Conflicts with the current state; `detail` says how."
    if "422" in responses or operation["x-role"] != "anyone":
        errors["422"] = "The request is not valid; `reasons` lists every fault."
    if "requestBody" in operation:
        errors["400"] = "The body is not JSON, or not UTF-8."
        errors["413"] = "The body is too large."
    if "requestBody" in operation:
        errors["507"] = "The disk is full; nothing half-written was kept."
    errors["503"] = "A dependency is not available; retry."
    for status, words in errors.items():
        content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        responses[status] = {"description": words, "content": content}
