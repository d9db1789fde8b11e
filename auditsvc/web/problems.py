"""Every error as Problem Details: what happened, a stable code, and all reasons.

Reference: M. Nottingham, E. Wilde, S. Dalal (2023), "Problem Details for HTTP APIs", RFC 9457.
"""

from __future__ import annotations

import errno
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
from auditsvc.errors import AuditError, StorageFull
from auditsvc.web.rendering import page

MEDIA_TYPE = "application/problem+json"
RETRY_S = 5
"""Seconds until a client should retry after a 503."""

_CODES = {
    400: "bad-request",
    404: "not-found",
    408: "too-slow",
    405: "method-not-allowed",
    413: "too-large",
    415: "unsupported-type",
    507: "storage-full",
}


STORAGE_FULL = (errno.ENOSPC, errno.EDQUOT)


class Problem(BaseModel):
    """What went wrong. Programs use ``code``; ``detail`` and ``reasons`` are for people."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    reasons: list[str] = []
    instance: str | None = None


def problem(status: int, code: str, detail: str, reasons: tuple[str, ...] = (), instance: str | None = None) -> Problem:
    """A problem; its ``type`` is the address of its explanation."""
    title = HTTPStatus(status).phrase
    return Problem(
        type=f"/problems#{code}",
        title=title,
        status=status,
        code=code,
        detail=detail,
        reasons=list(reasons),
        instance=instance,
    )


def problem_of(error: AuditError, instance: str | None = None) -> Problem:
    """An error of this package as a problem."""
    reasons = getattr(error, "reasons", ())
    return problem(error.status, error.code, str(error).split("\n")[0], tuple(reasons), instance)


def response_of(found: Problem, headers: dict[str, str] | None = None) -> Response:
    """The HTTP response of a problem."""
    extra = dict(headers or {})
    if found.status == 401:
        extra["www-authenticate"] = 'Bearer realm="auditsvc"'
    if found.status in (429, 503):
        extra["retry-after"] = str(RETRY_S if found.status == 503 else 1)
    body = json.dumps(found.model_dump(exclude_none=True), ensure_ascii=False).encode()
    return Response(body, found.status, extra, MEDIA_TYPE)


def all_codes() -> dict[str, tuple[int, str]]:
    """Every code with its status and a one-line explanation."""
    found: dict[str, tuple[int, str]] = {}
    kinds = [AuditError]
    while kinds:
        kind = kinds.pop(0)
        kinds += kind.__subclasses__()
        if kind is not AuditError and kind.__module__ == errors.__name__:
            found[kind.code] = (kind.status, (kind.__doc__ or "").split("\n")[0])
    own = {
        "method-not-allowed": (405, "The path exists, but not with this method."),
        "too-slow": (408, "The request body stopped arriving."),
        "too-large": (413, "The request body is larger than the route allows."),
        "headers-too-large": (431, "The request line and headers are larger than the service allows."),
        "wrong-host": (421, "The service is not configured for the host in the request."),
        "internal-error": (500, "A bug in auditsvc; the service's log has the details under the request id."),
    }
    return dict(sorted((found | own).items(), key=lambda item: (item[1][0], item[0])))


def install(app: FastAPI) -> None:
    """Install the handlers of all errors."""
    app.add_exception_handler(AuditError, _package_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OSError, _disk_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _package_error(request: Request, error: Exception) -> Response:
    found = problem_of(error, request.url.path) if isinstance(error, AuditError) else _internal(request)
    if found.status >= 500:
        logging.getLogger("auditsvc.web").warning("%s %s: %s", request.method, request.url.path, error)
    return _respond(request, found)


async def _validation_error(request: Request, error: Exception) -> Response:
    faults = error.errors() if isinstance(error, RequestValidationError) else ()
    reasons = tuple(_fault_line(fault) for fault in faults)
    return _respond(request, problem(422, "invalid-input", "the request is not valid", reasons, request.url.path))


def _respond(request: Request, found: Problem, headers: dict[str, str] | None = None) -> Response:
    """The problem as JSON, or as a page for a browser outside ``/v1``."""
    browser = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/v1/")
    if not browser:
        return response_of(found, headers)
    return page(request, "problem.html", "", status=found.status, problem=found)


def _fault_line(fault: dict[str, Any]) -> str:
    place = ".".join(str(part) for part in fault["loc"][1:]) or "body"
    return f"{fault['loc'][0]} {place}: {fault['msg']}"


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        return response_of(_internal(request))
    code = _CODES.get(error.status_code, HTTPStatus(error.status_code).phrase.lower().replace(" ", "-"))
    details = {404: f"{request.url.path} does not exist", 405: f"{request.url.path} has no method {request.method}"}
    detail = details.get(error.status_code, str(error.detail))
    return _respond(request, problem(error.status_code, code, detail, (), request.url.path), dict(error.headers or {}))


async def _disk_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, OSError) or error.errno not in STORAGE_FULL:
        raise error
    return await _package_error(request, StorageFull("the disk is full; free some space and send this again"))


async def _unexpected_error(request: Request, error: Exception) -> Response:  # noqa: ARG001 - the server logs it
    return response_of(_internal(request))


def _internal(request: Request) -> Problem:
    identity = getattr(request.state, "request_id", "")
    return problem(
        500,
        "internal-error",
        f"a bug in auditsvc; the service's log has the details under {identity}",
        (),
        request.url.path,
    )
