"""What the service itself must remember: tokens, answers to writes that may be repeated, asked-for revocations.

One small SQLite file in the store, ``access.db``.  Only a token's SHA-256 is kept: it has 256 random bits, so that
there is nothing to guess and no slow hash is needed.  It is read into memory and read again when it was changed,
by whatever process (``PRAGMA data_version``), so that a revoked token is refused at the next request.

Limit: the file belongs to one machine; several behind one address need one store.
"""

from __future__ import annotations

import datetime
import hashlib
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from auditsvc.api.identity import Caller
from auditsvc.errors import Conflict, NotFound, Unauthenticated, Unavailable
from auditsvc.ports import Clock
from auditsvc.records import Moment, Name, Value

PREFIX = "auditsvc_"
"""Every token begins with it, so that scanners for leaked secrets find one."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS token (
    id TEXT PRIMARY KEY, hash BLOB NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,
    issued TEXT NOT NULL, expires TEXT NOT NULL, revoked TEXT, project TEXT NOT NULL DEFAULT '');
CREATE TABLE IF NOT EXISTS answered (
    person TEXT NOT NULL, key TEXT NOT NULL, request BLOB NOT NULL, at TEXT NOT NULL,
    status INTEGER, kind TEXT, body BLOB, PRIMARY KEY (person, key));
CREATE TABLE IF NOT EXISTS recall (
    release TEXT PRIMARY KEY, reason TEXT NOT NULL, person TEXT NOT NULL, at TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS way_back (
    release TEXT PRIMARY KEY, reason TEXT NOT NULL, person TEXT NOT NULL, at TEXT NOT NULL);
"""


class Token(Value):
    """A token as others may see it: whose, what for, until when; never the token itself."""

    id: str
    name: Name
    role: str
    issued: Moment
    expires: Moment
    revoked: Moment | None = None
    project: str = ""


class Access:
    """Tokens by their hash."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open the file, or make it.

        Raises:
            Unavailable: it can't be opened or written.
        """
        self.path, self._clock = path, clock
        with self.changing() as connection:
            connection.executescript(_SCHEMA)
            if not any(row[1] == "project" for row in connection.execute("PRAGMA table_info(token)")):
                connection.execute("ALTER TABLE token ADD COLUMN project TEXT NOT NULL DEFAULT ''")
        path.chmod(0o600)
        self._watch = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._seen = -1
        self._tokens: dict[bytes, Token] = {}

    def close(self) -> None:
        """Give the file back."""
        self._watch.close()

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own: kept whole, or not at all.

        Raises:
            Conflict: somebody else was faster.
            Unavailable: the file can't be read or written.
        """
        try:
            with closing(sqlite3.connect(self.path, timeout=30)) as connection, connection:
                yield connection
        except sqlite3.IntegrityError as error:
            raise Conflict("somebody else did this a moment ago; look again") from error
        except sqlite3.OperationalError as error:
            raise Unavailable(f"{self.path} can't be read or written: {error}") from error

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
        row = (token.id, _hash(secret), name, role, token.issued.isoformat(), token.expires.isoformat(), project)
        with self.changing() as connection:
            connection.execute(
                "INSERT INTO token (id, hash, name, role, issued, expires, project) VALUES (?,?,?,?,?,?,?)", row
            )
        return secret, token

    def revoke(self, token: str) -> Token:
        """Take a token back, by its id; doing it again changes nothing.

        Raises:
            NotFound: there is no such token.
        """
        with self.changing() as connection:
            connection.execute(
                "UPDATE token SET revoked = ? WHERE id = ? AND revoked IS NULL", (self._clock.now().isoformat(), token)
            )
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
        version = self._watch.execute("PRAGMA data_version").fetchone()[0]
        if version != self._seen:
            rows = self._watch.execute(
                "SELECT hash, id, name, role, issued, expires, revoked, project FROM token ORDER BY issued, rowid"
            ).fetchall()
            fields = ("id", "name", "role", "issued", "expires", "revoked", "project")
            self._tokens = {row[0]: Token(**dict(zip(fields, row[1:], strict=True))) for row in rows}
            self._seen = version
        return self._tokens


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
