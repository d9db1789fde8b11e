"""Every error as Problem Details: what happened, a stable code, all reasons, and what to do.

Reference: M. Nottingham, E. Wilde, S. Dalal (2023), "Problem Details for HTTP APIs", RFC 9457.
"""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from auditsvc import errors
from auditsvc.errors import AuditError
from auditsvc.web.rendering import page

MEDIA_TYPE = "application/problem+json"
RETRY_S = 5
"""When a client should ask again after a 503, in seconds."""

_CODES = {
    400: "bad-request",
    404: "not-found",
    408: "too-slow",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-type",
}


class Problem(BaseModel):
    """What went wrong.  Programs look at ``code``; ``detail`` and ``reasons`` are for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    reasons: list[str] = []
    instance: str | None = None


def problem(status: int, code: str, detail: str, reasons: tuple[str, ...] = (), instance: str | None = None) -> Problem:
    """A problem whose ``type`` leads to its explanation on the API's own page."""
    title = HTTPStatus(status).phrase
    return Problem(
        type=f"/docs#{code}",
        title=title,
        status=status,
        code=code,
        detail=detail,
        reasons=list(reasons),
        instance=instance,
    )


def problem_of(error: AuditError, instance: str | None = None) -> Problem:
    """One of our errors as a problem."""
    reasons = getattr(error, "reasons", ())
    return problem(error.status, error.code, str(error).split("\n")[0], tuple(reasons), instance)


def response_of(found: Problem, headers: dict[str, str] | None = None) -> Response:
    """The problem on its way to the client."""
    extra = dict(headers or {})
    if found.status == 401:
        extra["www-authenticate"] = 'Bearer realm="auditsvc"'
    if found.status in (429, 503):
        extra["retry-after"] = str(RETRY_S if found.status == 503 else 1)
    body = json.dumps(found.model_dump(exclude_none=True), ensure_ascii=False).encode()
    return Response(body, found.status, extra, MEDIA_TYPE)


def all_codes() -> dict[str, tuple[int, str]]:
    """Every code with its status and the first line of its explanation."""
    found: dict[str, tuple[int, str]] = {}
    kinds = [AuditError]
    while kinds:
        kind = kinds.pop(0)
        kinds += kind.__subclasses__()
        if kind is not AuditError and kind.__module__ == errors.__name__:
            found[kind.code] = (kind.status, (kind.__doc__ or "").split("\n")[0])
    own = {
        "method-not-allowed": (405, "The path is right, the method is not."),
        "too-slow": (408, "The body stopped coming."),
        "too-large": (413, "The body is larger than this route takes."),
        "wrong-host": (421, "The request names a host that this service does not answer for."),
        "internal-error": (500, "A fault of auditsvc; its log has it under the request's id."),
    }
    return dict(sorted((found | own).items(), key=lambda item: (item[1][0], item[0])))


def install(app: FastAPI) -> None:
    """Let every error of this application end here."""
    app.add_exception_handler(AuditError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _fault)


async def _ours(request: Request, error: Exception) -> Response:
    found = problem_of(error, request.url.path) if isinstance(error, AuditError) else _internal(request)
    if found.status >= 500:
        logging.getLogger("auditsvc.web").warning("%s %s: %s", request.method, request.url.path, error)
    return _shown(request, found)


async def _invalid(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else ()
    reasons = tuple(_fault_line(fault) for fault in faults)
    return _shown(request, problem(422, "invalid-input", "the request can't be used", reasons, request.url.path))


def _shown(request: Request, found: Problem, headers: dict[str, str] | None = None) -> Response:
    """The problem as JSON, or for a browser on our pages as a page."""
    browser = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")
    if not browser:
        return response_of(found, headers)
    return page(request, "problem.html", "", status=found.status, problem=found)


def _fault_line(fault: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in fault["loc"][1:]) or "body"
    return f"{fault['loc'][0]} {place}: {fault['msg']}"


async def _of_http(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return response_of(_internal(request))
    code = _CODES.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "-"))
    words = {404: f"there is nothing at {request.url.path}", 405: f"{request.method} is not possible here"}
    detail = words.get(error.status_code, str(error.detail))
    return _shown(request, problem(error.status_code, code, detail, (), request.url.path), dict(error.headers or {}))


async def _fault(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the server logs it
    return response_of(_internal(request))


def _internal(request: Request) -> Problem:
    identity = getattr(request.state, "request_id", "")
    return problem(500, "internal-error", f"a fault of auditsvc; its log has it under {identity}", (), request.url.path)
