"""API tokens and the database of the service's own tables.

Only a token's SHA-256 is stored: a token has 256 random bits, so a slow password hash would add nothing.  Tokens are
cached in memory and read again after any process changed them, so a revoked token is refused at the next request:
SQLite counts commits (``PRAGMA data_version``, microseconds), PostgreSQL is asked for the numbers of tokens and of
revoked tokens.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from auditsvc.adapters.sql import Database
from auditsvc.errors import Conflict, Forbidden, NotFound, Unauthenticated
from auditsvc.ports import Clock
from auditsvc.records import Moment, Name, Value, person_key
from auditsvc.web import service_schema
from auditsvc.web.auth.permissions import Caller

PREFIX = "auditsvc_"
"""Every token starts with it, so that secret scanners recognise a leaked one."""

OIDC = "oidc:"
"""The issuer of a token starts with it where a person logged in at an OIDC issuer."""

_tokens, _identities = service_schema.token, service_schema.identity


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


class TokenStore:
    """Tokens by their hash, and transactions on the service's other tables."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Open the database: a new one is created, an older one is upgraded.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: it can't be opened or written, or a newer auditsvc wrote it.
        """
        self._clock = clock
        self._database = Database(url, service_schema.SCHEMA, private=True)
        self.is_local_sqlite = self._database.is_sqlite
        """Whether a query takes microseconds, so that it needs no thread of its own."""
        file = self._database.file
        self._watch = sqlite3.connect(file, isolation_level=None, check_same_thread=False) if file else None
        self._version: object = None
        self._cache: dict[bytes, Token] = {}
        self._bound: dict[tuple[str, str], str] = {}

    def close(self) -> None:
        """Close all connections."""
        if self._watch:
            self._watch.close()
        self._database.close()

    @contextmanager
    def read_tx(self) -> Iterator[Connection]:
        """A read transaction.  Raises ``Unavailable``."""
        with self._database.read_tx() as connection:
            yield connection

    @contextmanager
    def write_tx(self) -> Iterator[Connection]:
        """A write transaction: all or nothing.

        Raises:
            Conflict: another process inserted the same row first.
            Unavailable: the database can't be read or written.
        """
        try:
            with self._database.write_tx() as connection:
                yield connection
        except Conflict as error:
            raise Conflict("another request made the same change a moment ago; reload and check") from error

    def insert(self, table: Table) -> Any:
        """An ``INSERT`` in this database's dialect, which supports ``ON CONFLICT``."""
        return (sqlite if self.is_local_sqlite else postgresql).insert(table)

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
