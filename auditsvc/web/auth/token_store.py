"""Who may come in: tokens by their hash, and the database of what the service itself must remember.

Only a token's SHA-256 is kept: it has 256 random bits, so that there is nothing to guess and no slow hash is needed.
Tokens are read into memory and read again when they were changed, by whatever process, so that a revoked token is
refused at the next request: SQLite counts commits (``PRAGMA data_version``, microseconds), PostgreSQL is asked how many
tokens there are and how many were revoked.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from auditsvc.adapters.ledger.engine import open_engine, reading, use_wal, writing
from auditsvc.errors import Conflict, NotFound, Unauthenticated, Unavailable
from auditsvc.ports import Clock
from auditsvc.records import Moment, Name, Value
from auditsvc.web import service_schema
from auditsvc.web.caller import Caller

PREFIX = "auditsvc_"
"""Every token begins with it, so that scanners for leaked secrets find one."""

_tokens = service_schema.token


class Token(Value):
    """A token as others may see it: whose, what for, until when; never the token itself."""

    id: str
    name: Name
    role: str
    issued: Moment
    expires: Moment
    revoked: Moment | None = None
    project: str = ""


class TokenStore:
    """Tokens by their hash, and transactions on all that is remembered."""

    def __init__(self, url: str, clock: Clock) -> None:
        """Open the database, or make it.

        Raises:
            InvalidInput: not a database URL.
            Unavailable: it can't be opened or written.
        """
        self._clock = clock
        self._engine = open_engine(url, _make)
        self.is_near = self._engine.dialect.name == "sqlite"
        """Whether a look takes microseconds, so that it needs no thread of its own."""
        file = self._engine.url.database if self.is_near else None
        self._watch = sqlite3.connect(file, isolation_level=None, check_same_thread=False) if file else None
        self._seen: object = None
        self._known: dict[bytes, Token] = {}

    def close(self) -> None:
        """Give the database back."""
        if self._watch:
            self._watch.close()
        self._engine.dispose()

    @contextmanager
    def looking(self) -> Iterator[Connection]:
        """A connection in one snapshot.  Raises ``Unavailable``."""
        with reading(self._engine) as connection:
            yield connection

    @contextmanager
    def changing(self) -> Iterator[Connection]:
        """The only writer's transaction: kept whole, or not at all.

        Raises:
            Conflict: somebody else was faster.
            Unavailable: the database can't be read or written.
        """
        try:
            with writing(self._engine) as connection:
                yield connection
        except Conflict as error:
            raise Conflict("somebody else did this a moment ago; look again") from error

    def insert(self, table: Table) -> Any:
        """An ``INSERT`` that can say what happens on conflict, in this database's dialect."""
        return (sqlite if self.is_near else postgresql).insert(table)

    def issue(self, name: str, role: str, days: float, project: str = "") -> tuple[str, Token]:
        """A new token and what is known of it; the token is shown now and never again.

        ``role`` may be several with spaces between, as a person who came in through an issuer has them.
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
        with self.changing() as connection:
            connection.execute(insert(_tokens), row | {"hash": _hash(secret)})
        return secret, token

    def revoke(self, token: str) -> Token:
        """Take a token back, by its id; doing it again changes nothing.

        Raises:
            NotFound: there is no such token.
        """
        valid = update(_tokens).where(_tokens.c.id == token, _tokens.c.revoked.is_(None))
        with self.changing() as connection:
            connection.execute(valid.values(revoked=self._clock.now().isoformat()))
        for known in self.tokens():
            if known.id == token:
                return known
        raise NotFound(f"no token {token}")

    def tokens(self) -> tuple[Token, ...]:
        """All tokens ever issued, oldest first."""
        return tuple(self._current().values())

    def caller(self, secret: str) -> Caller:
        """Whose token this is.

        Raises:
            Unauthenticated: it is not known, expired or revoked.
        """
        token = self._current().get(_hash(secret))
        if token is None or token.revoked or token.expires <= self._clock.now():
            raise Unauthenticated("the token is not known, has expired or was revoked; ask an admin for a new one")
        return Caller(token.name, tuple(token.role.split()), token.id, token.project)

    def _current(self) -> dict[bytes, Token]:
        changed = self._changed()
        if changed != self._seen:
            with self.looking() as connection:
                rows = connection.execute(select(_tokens).order_by(_tokens.c.issued, _tokens.c.id)).mappings().all()
            self._known = {row["hash"]: Token(**{name: row[name] for name in Token.model_fields}) for row in rows}
            self._seen = changed
        return self._known

    def _changed(self) -> object:
        """Something that is another after every change of the tokens."""
        if self._watch:
            return self._watch.execute("PRAGMA data_version").fetchone()[0]
        with self.looking() as connection:
            return tuple(connection.execute(select(func.count(), func.count(_tokens.c.revoked))).one())


def _make(engine: Engine) -> None:
    if engine.dialect.name == "sqlite" and engine.url.database:
        file = Path(engine.url.database)
        try:
            file.touch(0o600)
            file.chmod(0o600)  # before its log is made, which gets the same rights
        except OSError as error:
            raise Unavailable(f"{file} can't be made or guarded: {error.strerror}") from error
        use_wal(engine)
    with writing(engine) as connection:
        service_schema.metadata.create_all(connection)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
