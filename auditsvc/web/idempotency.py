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

from sqlalchemy import ColumnElement, delete, insert, select, update
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from auditsvc.errors import Conflict, InvalidInput
from auditsvc.web.caller import Caller
from auditsvc.web.service_schema import idempotency_key

if TYPE_CHECKING:
    from auditsvc.web.auth.token_store import TokenStore
    from auditsvc.web.state import ProjectState

_MAX_KEY = 200
_KEPT = datetime.timedelta(days=1)
_UNFINISHED = datetime.timedelta(minutes=2)

Inner = Callable[[Request], Awaitable[Response]]


async def idempotent(request: Request, caller: Caller, inner: Inner) -> Response:
    """The answer that this key got before, or a new one, which is kept unless the server failed.

    Raises:
        InvalidInput: the key is empty, too long, or was used for another request.
        Conflict: the first request with this key is still being answered.
    """
    site: ProjectState = request.app.state.site
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


def _begin(access: TokenStore, person: str, key: str, seen: bytes, now: datetime.datetime) -> Response | None:
    old = (idempotency_key.c.at < (now - _KEPT).isoformat()) | (
        idempotency_key.c.status.is_(None) & (idempotency_key.c.at < (now - _UNFINISHED).isoformat())
    )
    with access.changing() as connection:
        connection.execute(delete(idempotency_key).where(old))
        found = connection.execute(select(idempotency_key).where(*_own(person, key))).first()
        if found is None:
            row = {"person": person, "key": key, "request": seen, "at": now.isoformat()}
            connection.execute(insert(idempotency_key), row)
            return None
    if found.request != seen:
        raise InvalidInput("this Idempotency-Key was used for another request; take a new one for each")
    if found.status is None:
        raise Conflict("the first request with this Idempotency-Key is still being answered; try again in a moment")
    return Response(found.body, found.status, {"idempotent-replayed": "true"}, found.kind)


def _keep(access: TokenStore, person: str, key: str, row: tuple[int, str | None, bytes]) -> None:
    status, kind, body = row
    with access.changing() as connection:
        connection.execute(
            update(idempotency_key).where(*_own(person, key)).values(status=status, kind=kind, body=body)
        )


def _forget(access: TokenStore, person: str, key: str) -> None:
    with access.changing() as connection:
        connection.execute(delete(idempotency_key).where(*_own(person, key), idempotency_key.c.status.is_(None)))


def _own(person: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return (idempotency_key.c.person == person, idempotency_key.c.key == key)
