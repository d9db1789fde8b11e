"""Middleware for every request and response: host check, body limit, security headers, rate limit, logging.

- An unknown ``Host`` is rejected, so that DNS rebinding cannot reach a service on loopback.
- A body is never larger than its route allows, with or without a ``Content-Length``.
- Every response has security headers for browsers.
- Every request has an ID and is counted.  Changes and rejections are logged with method, path without query, status,
  duration and ID; headers and bodies are never logged.
- Each caller, a token or else an address, has a token bucket of two seconds' worth of requests.  Requests from the
  same machine without a token are not limited.

Limit: each process counts for itself.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import TYPE_CHECKING

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from auditsvc.ports import about
from auditsvc.web.problems import problem, response_of

if TYPE_CHECKING:
    from auditsvc.web.state import ProjectState


BODY_LIMIT = 256 * 1024
"""Bytes in a request's body, where its route does not take more."""

BODY_WAIT_S = 30.0
"""How long a sender may pause in the middle of a body, in seconds."""

BODY_GRACE_S = 60.0
SLOWEST = 10_000
"""A body takes at most a minute and a second for each 10,000 bytes."""

PROBES = ("/healthz", "/readyz")
"""Paths that are answered for any host: probes name an address, or none (HTTP/1.0)."""

LARGE_BODIES = {
    "/v1/verify": 8 * 1024**3,
    "/v1/uploads": 8 * 1024**3,
    "/v1/identify": 8 * 1024**3,
    "/v1/identify/answers": 64 * 1024**2,
    "/jobs/import": 8 * 1024**3,
    "/statements/documents": 64 * 1024**2,
    "/v1/observations": 16 * 1024**2,
    "/v1/observation-labels": 16 * 1024**2,
}
"""Routes that stream what they are sent, or take a batch of observations."""

POLICY = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
POLICY += "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_POLICY = (b"content-security-policy", POLICY.encode())
_NO_STORE = (b"cache-control", b"no-cache")

_log = logging.getLogger("auditsvc.requests")


class SecurityMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp, site: ProjectState) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, pass on, count, log."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_head, ended = scope["method"] == "HEAD", False
        if is_head:  # answered as GET, without the body; uvicorn keeps its own scope
            scope = dict(scope, method="GET")
        prefix = self._site.prefix
        if prefix and f"{scope['path']}/".startswith(f"{prefix}/"):  # a proxy may strip it or not
            path = scope["path"].removeprefix(prefix) or "/"
            scope = dict(scope, path=path, raw_path=path.encode())
        began, status = time.perf_counter(), 500
        identity = secrets.token_hex(8)
        scope.setdefault("state", {}).update(request_id=identity, prefix=prefix)

        async def answer(message: Message) -> None:
            nonlocal status, ended
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, identity.encode(), prefix.encode())
            elif is_head:
                if ended:
                    return
                ended = True
                message = {"type": "http.response.body", "body": b""}  # the last part, which also ends a stream
            await send(message)

        with about(request=identity):
            try:
                refused = self._refusal(scope)
                if refused is not None:
                    await refused(scope, receive, answer)
                else:
                    await self._app(scope, _limited(scope, receive), answer)
            finally:
                self._note(scope, status, time.perf_counter() - began)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        host, length = b"", b""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"content-length":
                length = value
        if scope["path"] not in PROBES and not self._site.answers_for(host):
            detail = "this service does not answer for that host; name it in AUDITSVC_ALLOWED_HOSTS if it should"
            return response_of(problem(421, "wrong-host", detail))
        if length.isdigit() and int(length) > _limit(scope):
            return response_of(problem(413, "too-large", f"the body may have {_limit(scope)} bytes at most"))
        return None

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        self._site.metrics.observe(scope["method"], route, status, seconds)
        if status >= 400 or scope["method"] not in ("GET", "HEAD"):
            facts = {"method": scope["method"], "path": scope["path"], "status": status, "ms": round(seconds * 1000, 1)}
            _log.info("%s %s", facts["method"], facts["path"], extra={"facts": facts})


def _add_headers(message: Message, identity: bytes, prefix: bytes) -> None:
    given = message.get("headers", ())
    headers = message["headers"] = [
        (name, prefix + value if name == b"location" and value.startswith(b"/") else value) for name, value in given
    ]
    names = {name for name, _ in headers}
    headers.extend(HEADERS)
    headers.append((b"x-request-id", identity))
    headers.extend(header for header in (_POLICY, _NO_STORE) if header[0] not in names)


def _limit(scope: Scope) -> int:
    return LARGE_BODIES.get(scope["path"], BODY_LIMIT)


def _limited(scope: Scope, receive: Receive) -> Receive:
    """A body is counted as it comes, whatever it says of its length, and a sender that stops is not waited for."""
    if scope["method"] in ("GET", "HEAD"):
        return receive
    limit, seen, began = _limit(scope), 0, time.monotonic()

    async def counted() -> Message:
        nonlocal seen
        try:
            left = began + BODY_GRACE_S + seen / SLOWEST - time.monotonic()
            async with asyncio.timeout(min(BODY_WAIT_S, left)):
                message = await receive()
        except TimeoutError:
            detail = f"the body stopped for {BODY_WAIT_S:g} seconds, or came at less than {SLOWEST} bytes a second"
            raise HTTPException(408, f"{detail}; send it again") from None
        seen += len(message.get("body", b""))
        if seen > limit:
            raise HTTPException(413, f"the body may have {limit} bytes at most")
        return message

    return counted
