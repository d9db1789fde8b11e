"""Sessions of browsers: what a cookie holds is the secret of a session, never a token.

A session ends 12 hours after the login, after an hour without a request, and with its token.  Every
15 minutes the browser gets a new secret; the former one ends when the new one is first used, so that an answer that is
lost on its way logs nobody out, and a cookie that was copied is good for minutes or shows itself.  Only the SHA-256 of
a secret is stored.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from auditsvc.errors import Unauthenticated
from auditsvc.web.service_schema import session

if TYPE_CHECKING:
    from auditsvc.web.auth.permissions import Caller
    from auditsvc.web.auth.token_store import TokenStore

SESSION = datetime.timedelta(hours=12)
IDLE = datetime.timedelta(hours=1)
ROTATED_AFTER = datetime.timedelta(minutes=15)


def open_session(access: TokenStore, token: str) -> str:
    """Begin a session of a token, by the token's id; returns the secret for the cookie."""
    now = access.now()
    return _add(access, token, now, now, None)


def caller_of(access: TokenStore, secret: str) -> tuple[Caller, str | None]:
    """Whose session this is, and a new secret where the cookie is to be replaced.

    Raises:
        Unauthenticated: no session, or one that has ended, or whose token is expired or revoked.
    """
    now, own = access.now(), hashlib.sha256(secret.encode()).digest()
    with access.read_tx() as connection:
        row = connection.execute(select(session).where(session.c.hash == own)).first()
    if row is None or _ended(row.opened_at, row.renewed_at, now):
        raise Unauthenticated("the session has ended; log in again")
    caller = access.caller_by_id(row.token)
    if row.replaces is not None:
        with access.write_tx() as connection:
            connection.execute(delete(session).where(session.c.hash == row.replaces))
            connection.execute(update(session).where(session.c.hash == own).values(replaces=None))
    if now - datetime.datetime.fromisoformat(row.renewed_at) < ROTATED_AFTER:
        return caller, None
    return caller, _add(access, row.token, datetime.datetime.fromisoformat(row.opened_at), now, own)


def end_session(access: TokenStore, secret: str) -> Caller | None:
    """End all secrets of this session's token; returns whose it was, None where there was no session."""
    try:
        caller, _ = caller_of(access, secret)
    except Unauthenticated:
        return None
    with access.write_tx() as connection:
        connection.execute(delete(session).where(session.c.token == caller.token))
    return caller


def delete_ended_sessions(access: TokenStore) -> None:
    """Delete the rows of sessions that have ended."""
    now = access.now()
    over = (session.c.opened_at <= (now - SESSION).isoformat()) | (session.c.renewed_at <= (now - IDLE).isoformat())
    with access.write_tx() as connection:
        connection.execute(delete(session).where(over))


def _ended(opened: str, renewed: str, now: datetime.datetime) -> bool:
    past = datetime.datetime.fromisoformat
    return now - past(opened) >= SESSION or now - past(renewed) >= IDLE


def _add(
    access: TokenStore, token: str, opened: datetime.datetime, now: datetime.datetime, replaces: bytes | None
) -> str:
    secret = secrets.token_urlsafe(32)
    row = {
        "hash": hashlib.sha256(secret.encode()).digest(),
        "token": token,
        "opened_at": opened.isoformat(),
        "renewed_at": now.isoformat(),
        "replaces": replaces,
    }
    with access.write_tx() as connection:
        connection.execute(insert(session), row)
    return secret
