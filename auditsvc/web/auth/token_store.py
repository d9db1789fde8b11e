"""API tokens with their roles, sessions of browsers, and the database of the service's own tables.

``reader`` is included in every role. Beyond that no role includes another, so that different people submit a release
(``submitter``), measure and sign it (``auditor``), approve it (``approver``) and manage tokens (``admin``).

Only a token's SHA-256 is stored: a token has 256 random bits, so a slow password hash would add nothing.  Tokens are
cached in memory and read again after any process changed them, so a revoked token is refused at the next request:
SQLite counts commits (``PRAGMA data_version``, microseconds), PostgreSQL is asked for the numbers of tokens and of
revoked tokens.

A cookie holds the secret of a session, never a token.  A session ends 12 hours after the login, after an hour without a
request, and with its token.  Every 15 minutes the browser gets a new secret; the former one ends when the new one is
first used, so that an answer that is lost on its way logs no one out, and a cookie that was copied is good for minutes
or shows itself.  Only the SHA-256 of a secret is stored.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

from sqlalchemy import Connection, delete, func, insert, select, update

from auditsvc.adapters.sql import Database
from auditsvc.errors import Conflict, Forbidden, NotFound, Unauthenticated
from auditsvc.ports import Clock
from auditsvc.records import Moment, Name, Value, person_key
from auditsvc.web import service_schema

Role = Literal["reader", "submitter", "auditor", "approver", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

Access = Literal["anyone", "hmac"] | Role
"""What a route needs: a role; ``anyone`` for no token; ``hmac`` for a signature over the body that the route checks."""

OPEN = ("anyone", "hmac")
"""Access without a token."""

COOKIE, HOST_COOKIE = "auditsvc_session", "__Host-auditsvc_session"
"""The cookie that holds a browser's session; the second one where the public URL is https: browsers take and send it
over TLS alone, and no other host of the domain can set it."""

PROJECT = "auditsvc-project"
"""The header with which a caller who has roles in several projects chooses one."""


@dataclass(frozen=True)
class Caller:
    """A person or program with roles in one project; ``name`` is what the ledger records."""

    name: str
    roles: tuple[str, ...]
    token: str = ""
    """The id of the token, not its secret; empty for a local reader without a token."""
    project: str = ""
    issuer: str = ""
    """Who issued the token: an admin, or ``oidc:`` and an issuer; empty for the operator's own."""

    @property
    def role(self) -> str:
        """The roles, separated by commas."""
        return ", ".join(self.roles)

    def may(self, needed: str) -> bool:
        """Whether the caller has the role; everyone has ``reader``."""
        return needed == "reader" or needed in self.roles


LOCAL = Caller("local", ("reader",))
"""A caller on this machine without a token, while the service is bound to loopback."""


def require_role(caller: Caller, needed: Access) -> None:
    """Check that the caller has the role that a route needs.

    Raises:
        Unauthenticated: the caller has no token.
        Forbidden: the caller's roles don't include it.
    """
    if not caller.may(needed):
        if not caller.token:
            raise Unauthenticated(f"this needs a token with the role {needed}; ask an admin for one")
        raise Forbidden(f"this needs the role {needed}; {caller.name} has the role {caller.role}")


PREFIX = "auditsvc_"
"""Every token starts with it, so that secret scanners recognise a leaked one."""

OIDC = "oidc:"
"""The issuer of a token starts with it where a person logged in at an OIDC issuer."""

_tokens, _identities, _sessions = service_schema.token, service_schema.identity, service_schema.session


class Token(Value):
    """The public part of a token: owner, roles, validity; never the secret."""

    id: str
    name: Name
    role: str
    issued: Moment
    expires: Moment
    revoked: Moment | None = None
    project: str = ""
    issuer: str = ""
    """The admin who issued it, or ``oidc:`` and the issuer; empty for one that the operator made with ``serve``."""


class TokenStore(Database):
    """Tokens by their hash, and transactions on the service's other tables."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Open the database: a new one is created, an older one is upgraded.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: it can't be opened or written, or a newer auditsvc wrote it.
        """
        self._clock = clock
        super().__init__(url, service_schema.SCHEMA, private=True)
        self._watch = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False) if self.file else None
        self._version: object = None
        self._cache: dict[bytes, Token] = {}
        self._bound: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        """Close all connections."""
        if self._watch:
            self._watch.close()
        super().close()

    @contextmanager
    def write_tx(self) -> Iterator[Connection]:
        """A write transaction: all or nothing.

        Raises:
            Conflict: another process inserted the same row first.
            Unavailable: the database can't be read or written.
        """
        try:
            with super().write_tx() as connection:
                yield connection
        except Conflict as error:
            raise Conflict("another request made the same change a moment ago; reload and check") from error

    def issue(self, name: str, role: str, days: float, project: str = "", *, issuer: str = "") -> tuple[str, Token]:
        """Issue a token; returns the secret, which can't be read again, and its public part.

        ``role`` may be several roles separated by spaces, as for a user who logged in with OIDC.

        Raises:
            Conflict: the name reads like another one that has a token or belongs to a person of the OIDC issuer.
        """
        self._require_own_name(name)
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._clock.now()
        token = Token(
            id=secrets.token_hex(6),
            name=name,
            role=role,
            issued=now,
            expires=now + datetime.timedelta(days=days),
            project=project,
            issuer=issuer,
        )
        row = token.model_dump(mode="json") | {"issued": now.isoformat(), "expires": token.expires.isoformat()}
        with self.write_tx() as connection:
            connection.execute(insert(_tokens), row | {"hash": _hash(secret)})
        return secret, token

    def revoke(self, token: str) -> Token:
        """Revoke a token by its id; repeating it changes nothing.

        Raises:
            NotFound: no token has this id.
        """
        valid = update(_tokens).where(_tokens.c.id == token, _tokens.c.revoked.is_(None))
        with self.write_tx() as connection:
            connection.execute(valid.values(revoked=self._clock.now().isoformat()))
        for known in self.tokens():
            if known.id == token:
                return known
        raise NotFound(f"no token {token}")

    def tokens(self) -> tuple[Token, ...]:
        """All tokens ever issued, oldest first."""
        return tuple(self._current().values())

    def caller(self, secret: str) -> Caller:
        """The owner of a token.

        Raises:
            Unauthenticated: the token is unknown, expired or revoked.
        """
        return self._caller(_hash(secret))

    def _caller(self, key: bytes) -> Caller:
        token = self._current().get(key)
        if token is None or token.revoked or token.expires <= self._clock.now():
            raise Unauthenticated("the token is unknown, expired or revoked; ask an admin for a new one")
        return Caller(token.name, tuple(token.role.split()), token.id, token.project, token.issuer)

    def caller_by_id(self, id: str) -> Caller:
        """The owner of a token, by the token's id.  Raises as ``caller``."""
        secret = next((key for key, token in self._current().items() if token.id == id), b"")
        return self._caller(secret)

    def now(self) -> datetime.datetime:
        """The time of the clock that tokens and sessions end by."""
        return self._clock.now()

    def bind(self, issuer: str, subject: str, name: str) -> str:
        """The name of a person of an OIDC issuer: that of the first login, whatever the issuer says later.

        Raises:
            Forbidden: the name reads like that of another person.
        """
        if (issuer, subject) not in self._bound:
            key = person_key(name)
            row = self.insert(_identities).values(issuer=issuer, subject=subject, name=name, key=key)
            with self.write_tx() as connection:
                connection.execute(row.on_conflict_do_nothing())
                mine = (_identities.c.issuer == issuer, _identities.c.subject == subject)
                known = connection.execute(select(_identities.c.name).where(*mine)).scalar()
            if known is None:
                raise Forbidden(f"the name {name} reads like that of another person of the issuer; they need two names")
            self._bound[issuer, subject] = str(known)
        return self._bound[issuer, subject]

    def require_independent(self, caller: Caller, others: Iterable[str]) -> None:
        """Refuse a caller who could be one of these people: who issued the token of one of two could hold both.

        The issuers of an admin's own token count too, up to the operator, who makes tokens with ``serve``.

        Raises:
            Forbidden: names the two and whom their tokens come from.
        """
        own = person_key(caller.name)
        mine = {own, *self._issuers(caller.issuer)}
        for other in others:
            key = person_key(other)
            tokens = [token for token in self.tokens() if person_key(token.name) == key]
            theirs = {key}.union(*(self._issuers(token.issuer) for token in tokens))
            if key != own and mine & theirs:
                raise Forbidden(
                    f"{caller.name} and {other} may be one person: one admin, or one of them, issued both tokens; "
                    "tokens of two admins, or logins at an OIDC issuer, are needed"
                )

    def _issuers(self, issuer: str) -> set[str]:
        """The keys of an admin and of everybody who issued the tokens that this admin has."""
        found: set[str] = set()
        pending = [issuer]
        while pending:
            name = pending.pop()
            key = person_key(name)
            if name and not name.startswith(OIDC) and key not in found:
                found.add(key)
                admins = (token for token in self.tokens() if "admin" in token.role.split())
                pending += [token.issuer for token in admins if person_key(token.name) == key]
        return found

    def _require_own_name(self, name: str) -> None:
        with self.read_tx() as connection:
            query = select(_identities.c.name).where(_identities.c.key == person_key(name))
            known = [*connection.execute(query).scalars()]
        known += [token.name for token in self.tokens() if person_key(token.name) == person_key(name)]
        other = next((one for one in known if one.lower() != name.lower()), None)
        if other is not None:
            raise Conflict(f"the name {name} reads like {other}, which has access already: a person has one name")

    def _current(self) -> dict[bytes, Token]:
        version = self._current_version()
        if version != self._version:
            with self.read_tx() as connection:
                rows = connection.execute(select(_tokens).order_by(_tokens.c.issued, _tokens.c.id)).mappings().all()
            self._cache = {row["hash"]: Token(**{name: row[name] for name in Token.model_fields}) for row in rows}
            self._version = version
        return self._cache

    def _current_version(self) -> object:
        """A value that differs after every change of the tokens."""
        if self._watch:
            return self._watch.execute("PRAGMA data_version").fetchone()[0]
        with self.read_tx() as connection:
            return tuple(connection.execute(select(func.count(), func.count(_tokens.c.revoked))).one())


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


SESSION = datetime.timedelta(hours=12)
IDLE = datetime.timedelta(hours=1)
ROTATED_AFTER = datetime.timedelta(minutes=15)


def open_session(access: TokenStore, token: str) -> str:
    """Begin a session of a token, by the token's id; returns the secret for the cookie."""
    now = access.now()
    return _add(access, token, now, now, None)


def session_caller(access: TokenStore, secret: str) -> tuple[Caller, str | None]:
    """Whose session this is, and a new secret where the cookie is to be replaced.

    Raises:
        Unauthenticated: no session, or one that has ended, or whose token is expired or revoked.
    """
    now, own = access.now(), _hash(secret)
    with access.read_tx() as connection:
        row = connection.execute(select(_sessions).where(_sessions.c.hash == own)).first()
    if row is None or _ended(row.opened_at, row.renewed_at, now):
        raise Unauthenticated("the session has ended; log in again")
    caller = access.caller_by_id(row.token)
    if row.replaces is not None:
        with access.write_tx() as connection:
            connection.execute(delete(_sessions).where(_sessions.c.hash == row.replaces))
            connection.execute(update(_sessions).where(_sessions.c.hash == own).values(replaces=None))
    if now - datetime.datetime.fromisoformat(row.renewed_at) < ROTATED_AFTER:
        return caller, None
    return caller, _add(access, row.token, datetime.datetime.fromisoformat(row.opened_at), now, own)


def end_session(access: TokenStore, secret: str) -> Caller | None:
    """End all secrets of this session's token; returns whose it was, None where there was no session."""
    try:
        caller, _ = session_caller(access, secret)
    except Unauthenticated:
        return None
    with access.write_tx() as connection:
        connection.execute(delete(_sessions).where(_sessions.c.token == caller.token))
    return caller


def delete_ended_sessions(access: TokenStore) -> None:
    """Delete the rows of sessions that have ended."""
    now = access.now()
    over = (_sessions.c.opened_at <= (now - SESSION).isoformat()) | (_sessions.c.renewed_at <= (now - IDLE).isoformat())
    with access.write_tx() as connection:
        connection.execute(delete(_sessions).where(over))


def _ended(opened: str, renewed: str, now: datetime.datetime) -> bool:
    past = datetime.datetime.fromisoformat
    return now - past(opened) >= SESSION or now - past(renewed) >= IDLE


def _add(
    access: TokenStore, token: str, opened: datetime.datetime, now: datetime.datetime, replaces: bytes | None
) -> str:
    secret = secrets.token_urlsafe(32)
    row = {
        "hash": _hash(secret),
        "token": token,
        "opened_at": opened.isoformat(),
        "renewed_at": now.isoformat(),
        "replaces": replaces,
    }
    with access.write_tx() as connection:
        connection.execute(insert(_sessions), row)
    return secret
