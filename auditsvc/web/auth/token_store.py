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
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from auditsvc.adapters.sql import Database
from auditsvc.errors import Conflict, NotFound, Unauthenticated
from auditsvc.ports import Clock
from auditsvc.records import Moment, Name, Value
from auditsvc.web import service_schema
from auditsvc.web.auth.permissions import Caller

PREFIX = "auditsvc_"
"""Every token starts with it, so that secret scanners recognise a leaked one."""

_tokens = service_schema.token


class Token(Value):
    """The public part of a token: owner, roles, validity; never the secret."""

    id: str
    name: Name
    role: str
    issued: Moment
    expires: Moment
    revoked: Moment | None = None
    project: str = ""


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

    def issue(self, name: str, role: str, days: float, project: str = "") -> tuple[str, Token]:
        """Issue a token; returns the secret, which can't be read again, and its public part.

        ``role`` may be several roles separated by spaces, as for a user who logged in with OIDC.
        """
        secret = PREFIX + secrets.token_urlsafe(32)
        now = self._clock.now()
        token = Token(
            id=secrets.token_hex(6),
            name=name,
            role=role,
            issued=now,
            expires=now + datetime.timedelta(days=days),
            project=project,
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
        token = self._current().get(_hash(secret))
        if token is None or token.revoked or token.expires <= self._clock.now():
            raise Unauthenticated("the token is unknown, expired or revoked; ask an admin for a new one")
        return Caller(token.name, tuple(token.role.split()), token.id, token.project)

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
