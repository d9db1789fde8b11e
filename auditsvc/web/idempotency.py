"""``Idempotency-Key``: a write request that is repeated gets the first response and is executed once.

A key belongs to its caller; reusing it for a different request is an error.  Responses are kept for a day, with the
headers that say where the result is; of a response with a secret only that it was given is kept.  Every
service function can be repeated without harm anyway; the key makes the *response* the same too.

Reference: J. Jena, S. Dalal (2025), "The Idempotency-Key HTTP Header Field", draft-ietf-httpapi-idempotency-key-header.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, delete, insert, select, update
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from auditsvc.errors import Conflict, InvalidInput
from auditsvc.web.auth.token_store import Caller
from auditsvc.web.middleware import LARGE_BODIES
from auditsvc.web.problems import problem, response_of
from auditsvc.web.service_schema import idempotency_key

if TYPE_CHECKING:
    from auditsvc.web.auth.token_store import TokenStore
    from auditsvc.web.state import ProjectState

_MAX_KEY_LENGTH = 200
_RETENTION = datetime.timedelta(days=1)
_IN_PROGRESS_TIMEOUT = datetime.timedelta(minutes=2)

_KEPT_HEADERS = ("location", "etag")
_SHOWN_ONCE = "the first request with this Idempotency-Key succeeded; its secret was shown once and is not kept: "
_SHOWN_ONCE += "revoke what it made, and make another"

Inner = Callable[[Request], Awaitable[Response]]


async def idempotent(request: Request, caller: Caller, inner: Inner) -> Response:
    """The stored response for this key, or a new one, which is stored unless the server failed.

    Raises:
        InvalidInput: the key is empty, too long, or was used for a different request.
        Conflict: the first request with this key is still in progress.
    """
    site: ProjectState = request.app.state.site
    owner = f"{caller.project}/{caller.name}" if caller.project else caller.name
    key = request.headers["idempotency-key"]
    if request.scope["path"] in LARGE_BODIES:
        raise InvalidInput("this route takes no Idempotency-Key: what it keeps is named by its content; send it again")
    if not 0 < len(key) <= _MAX_KEY_LENGTH:
        raise InvalidInput(f"the Idempotency-Key must have 1 to {_MAX_KEY_LENGTH} characters")
    target = f"{request.method} {request.url.path}?{request.url.query}\n".encode()
    request_hash = hashlib.sha256(target + await request.body()).digest()
    stored = await run_in_threadpool(_begin, site.access, owner, key, request_hash, site.clock.now())
    if stored:
        return stored
    try:
        response = await inner(request)
    except BaseException:
        await run_in_threadpool(_release, site.access, owner, key)
        raise
    if request.scope["state"].get("shown_once"):
        kept = response_of(problem(409, "conflict", _SHOWN_ONCE, (), request.url.path))
    else:
        kept = response
    headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
    row = (kept.status_code, kept.media_type or kept.headers.get("content-type"), bytes(kept.body), headers)
    await run_in_threadpool(_store, site.access, owner, key, row)
    return response


def _begin(access: TokenStore, owner: str, key: str, request_hash: bytes, now: datetime.datetime) -> Response | None:
    """The stored response; None if this is the first request with the key, which is now marked as in progress."""
    with access.write_tx() as connection:
        connection.execute(delete(idempotency_key).where(_expired(now), *_own(owner, key)))
        found = connection.execute(select(idempotency_key).where(*_own(owner, key))).first()
        if found is None:
            row = {"caller": owner, "key": key, "request_hash": request_hash, "created_at": now.isoformat()}
            connection.execute(insert(idempotency_key), row)
            return None
    if found.request_hash != request_hash:
        raise InvalidInput("this Idempotency-Key was used for a different request; use a new key for each request")
    if found.status is None:
        raise Conflict("the first request with this Idempotency-Key is still in progress; retry later")
    headers = json.loads(found.headers or "{}") | {"idempotent-replayed": "true"}
    return Response(found.body, found.status, headers, found.content_type)


def _expired(now: datetime.datetime) -> ColumnElement[bool]:
    columns = idempotency_key.c
    return (columns.created_at < (now - _RETENTION).isoformat()) | (
        columns.status.is_(None) & (columns.created_at < (now - _IN_PROGRESS_TIMEOUT).isoformat())
    )


def delete_expired_answers(access: TokenStore) -> None:
    """Delete the answers that are no longer given again."""
    with access.write_tx() as connection:
        connection.execute(delete(idempotency_key).where(_expired(access.now())))


def _store(access: TokenStore, owner: str, key: str, row: tuple[int, str | None, bytes, dict[str, str]]) -> None:
    status, content_type, body, headers = row
    stored = update(idempotency_key).where(*_own(owner, key))
    with access.write_tx() as connection:
        values = {"status": status, "content_type": content_type, "body": body, "headers": json.dumps(headers)}
        connection.execute(stored.values(**values))


def _release(access: TokenStore, owner: str, key: str) -> None:
    """Forget a key whose request failed, so that it can be retried."""
    with access.write_tx() as connection:
        connection.execute(delete(idempotency_key).where(*_own(owner, key), idempotency_key.c.status.is_(None)))


def _own(owner: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return (idempotency_key.c.caller == owner, idempotency_key.c.key == key)
