"""``Idempotency-Key``: a write that is sent again is answered as it was, and done once.

The key belongs to the caller; sent with another request it is refused.  An answer is kept for a day.  Every verb
can be run twice without harm anyway; the key makes the *answer* the same too.

Reference: J. Jena, S. Dalal (2025), "The Idempotency-Key HTTP Header Field", draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from auditsvc.api.identity import Caller
from auditsvc.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from auditsvc.api.access import Access
    from auditsvc.api.site import Site

_MAX_KEY = 200
_KEPT = datetime.timedelta(days=1)
_UNFINISHED = datetime.timedelta(minutes=2)

Inner = Callable[[Request], Awaitable[Response]]


async def answered_once(request: Request, caller: Caller, inner: Inner) -> Response:
    """The answer that this key got before, or a new one, which is kept unless the server failed.

    Raises:
        InvalidInput: the key is empty, too long, or was used for another request.
        Conflict: the first request with this key is still being answered.
    """
    site: Site = request.app.state.site
    person = f"{caller.project}/{caller.name}" if caller.project else caller.name
    key = request.headers["idempotency-key"]
    if not 0 < len(key) <= _MAX_KEY:
        raise InvalidInput(f"an Idempotency-Key has 1 to {_MAX_KEY} characters")
    seen = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode() + await request.body())
    known = await run_in_threadpool(_begin, site.access, person, key, seen.digest(), site.clock.now())
    if known:
        return known
    try:
        response = await inner(request)
    except BaseException:
        await run_in_threadpool(_forget, site.access, person, key)
        raise
    row = (response.status_code, response.media_type or response.headers.get("content-type"), bytes(response.body))
    await run_in_threadpool(_keep, site.access, person, key, row)
    return response


def _begin(access: Access, person: str, key: str, seen: bytes, now: datetime.datetime) -> Response | None:
    with access.changing() as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(
            "DELETE FROM answered WHERE at < ? OR (status IS NULL AND at < ?)",
            ((now - _KEPT).isoformat(), (now - _UNFINISHED).isoformat()),
        )
        found = connection.execute(
            "SELECT request, status, kind, body FROM answered WHERE person = ? AND key = ?", (person, key)
        ).fetchone()
        if found is None:
            row = (person, key, seen, now.isoformat())
            connection.execute("INSERT INTO answered (person, key, request, at) VALUES (?,?,?,?)", row)
            return None
    request, status, kind, body = found
    if request != seen:
        raise InvalidInput("this Idempotency-Key was used for another request; take a new one for each")
    if status is None:
        raise Conflict("the first request with this Idempotency-Key is still being answered; try again in a moment")
    return Response(body, status, {"idempotent-replayed": "true"}, kind)


def _keep(access: Access, person: str, key: str, row: tuple[int, str | None, bytes]) -> None:
    with access.changing() as connection:
        connection.execute(
            "UPDATE answered SET status = ?, kind = ?, body = ? WHERE person = ? AND key = ?", (*row, person, key)
        )


def _forget(access: Access, person: str, key: str) -> None:
    with access.changing() as connection:
        connection.execute("DELETE FROM answered WHERE person = ? AND key = ? AND status IS NULL", (person, key))
