"""Who wants to be told what, and every delivery with its fate.

A delivery is named by its receiver and the entry of the log that it tells of, so that the same event is never told
twice under two names.  What was delivered is forgotten after a week; what was given up stays until it is sent again.

Limit: the secrets lie in ``access.db`` as they are, because signing needs them; its owner alone may read the file.
"""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Sequence
from typing import Literal

from auditsvc.api.access import Access
from auditsvc.api.hooks.signing import new_secret
from auditsvc.errors import NotFound
from auditsvc.ports import Clock
from auditsvc.records import Moment, Name, Value

State = Literal["waiting", "delivered", "dead"]

PAUSES_S = (5, 60, 300, 1800, 7200, 18000, 36000)
"""Waits before another try, in seconds; after the last one, some 18 hours in, a delivery is dead."""

LEASE_S = 60
"""How long one courier has a delivery to itself."""

KEPT_DAYS = 7

_SCHEMA = """
CREATE TABLE IF NOT EXISTS hook (
    id TEXT PRIMARY KEY, project TEXT NOT NULL, url TEXT NOT NULL, secret TEXT NOT NULL, events TEXT NOT NULL,
    person TEXT NOT NULL, at TEXT NOT NULL, ended TEXT);
CREATE TABLE IF NOT EXISTS told (project TEXT PRIMARY KEY, size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS delivery (
    id TEXT PRIMARY KEY, hook TEXT NOT NULL, type TEXT NOT NULL, body BLOB NOT NULL, state TEXT NOT NULL,
    tries INTEGER NOT NULL, due TEXT NOT NULL, at TEXT NOT NULL, trouble TEXT NOT NULL);
"""


class Hook(Value):
    """A receiver: where it is, which events it wants (all, if none is named), who asked for it."""

    id: str
    url: str
    events: tuple[str, ...] = ()
    person: Name
    at: Moment
    ended: Moment | None = None


class Delivery(Value):
    """One event on its way to one receiver."""

    id: str
    hook: str
    type: str
    state: State
    tries: int
    due: Moment
    at: Moment
    trouble: str = ""


class Due(Value):
    """A delivery that is to be sent now, with all that sending needs."""

    id: str
    hook: str
    url: str
    secret: str
    body: bytes
    tries: int


class Book:
    """The receivers and deliveries of one project."""

    def __init__(self, access: Access, clock: Clock, project: str = "") -> None:
        self._access, self._clock, self._project = access, clock, project
        with access.changing() as connection:
            connection.executescript(_SCHEMA)

    def add(self, url: str, events: Sequence[str], person: str) -> tuple[str, Hook]:
        """A new receiver and its secret, which is shown now and never again."""
        secret = new_secret()
        hook = Hook(id=secrets.token_hex(6), url=url, events=tuple(events), person=person, at=self._clock.now())
        row = (hook.id, self._project, url, secret, json.dumps(hook.events), person, hook.at.isoformat())
        with self._access.changing() as connection:
            connection.execute(
                "INSERT INTO hook (id, project, url, secret, events, person, at) VALUES (?,?,?,?,?,?,?)", row
            )
        return secret, hook

    def hooks(self) -> tuple[Hook, ...]:
        """All receivers, oldest first, ended ones too."""
        query = "SELECT id, url, events, person, at, ended FROM hook WHERE project = ? ORDER BY at, rowid"
        with self._access.changing() as connection:
            rows = connection.execute(query, (self._project,)).fetchall()
        return tuple(
            Hook(id=row[0], url=row[1], events=tuple(json.loads(row[2])), person=row[3], at=row[4], ended=row[5])
            for row in rows
        )

    def end(self, hook: str) -> Hook:
        """Tell this receiver nothing more; what still waits for it is dead.

        Raises:
            NotFound: there is no such receiver.
        """
        with self._access.changing() as connection:
            connection.execute(
                "UPDATE hook SET ended = ? WHERE id = ? AND project = ? AND ended IS NULL",
                (self._clock.now().isoformat(), hook, self._project),
            )
            connection.execute("UPDATE delivery SET state = 'dead' WHERE hook = ? AND state = 'waiting'", (hook,))
        for known in self.hooks():
            if known.id == hook:
                return known
        raise NotFound(f"no receiver {hook}")

    def told(self) -> int | None:
        """How many entries of the log were turned into deliveries; None before the first time."""
        with self._access.changing() as connection:
            row = connection.execute("SELECT size FROM told WHERE project = ?", (self._project,)).fetchone()
        return None if row is None else int(row[0])

    def write(self, size: int, events: Sequence[tuple[int, str, bytes]]) -> None:
        """Turn these entries (number, type, body) into deliveries, and remember that the log was read up to here."""
        now = self._clock.now().isoformat()
        open_hooks = [hook for hook in self.hooks() if hook.ended is None]
        rows = [
            (f"msg_{hook.id}_{number}", hook.id, kind, body, now, now)
            for number, kind, body in events
            for hook in open_hooks
            if not hook.events or kind in hook.events
        ]
        with self._access.changing() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO delivery VALUES (?,?,?,?,'waiting',0,?,?,'')",
                rows,
            )
            connection.execute(
                "INSERT INTO told VALUES (?,?) ON CONFLICT (project) DO UPDATE SET size = max(size, excluded.size)",
                (self._project, size),
            )
            old = (self._clock.now() - datetime.timedelta(days=KEPT_DAYS)).isoformat()
            connection.execute("DELETE FROM delivery WHERE state = 'delivered' AND at < ?", (old,))

    def claim(self, most: int = 20) -> tuple[Due, ...]:
        """Deliveries that are due, for this courier alone until the lease is over."""
        now = self._clock.now()
        until = (now + datetime.timedelta(seconds=LEASE_S)).isoformat()
        query = (
            "SELECT delivery.id, hook.id, hook.url, hook.secret, delivery.body, delivery.tries FROM delivery "
            "JOIN hook ON hook.id = delivery.hook WHERE hook.project = ? AND delivery.state = 'waiting' "
            "AND delivery.due <= ? ORDER BY delivery.due LIMIT ?"
        )
        with self._access.changing() as connection:
            connection.execute("BEGIN IMMEDIATE")
            rows = connection.execute(query, (self._project, now.isoformat(), most)).fetchall()
            connection.executemany("UPDATE delivery SET due = ? WHERE id = ?", [(until, row[0]) for row in rows])
        fields = ("id", "hook", "url", "secret", "body", "tries")
        return tuple(Due(**dict(zip(fields, row, strict=True))) for row in rows)

    def done(self, due: Due) -> None:
        """It was delivered."""
        with self._access.changing() as connection:
            connection.execute(
                "UPDATE delivery SET state = 'delivered', tries = tries + 1, trouble = '' WHERE id = ?", (due.id,)
            )

    def failed(self, due: Due, trouble: str, *, for_good: bool = False) -> State:
        """It was not: it is due again later, or dead after the last try."""
        dead = for_good or due.tries >= len(PAUSES_S)
        pause = 0 if dead else PAUSES_S[due.tries]
        again = (self._clock.now() + datetime.timedelta(seconds=pause)).isoformat()
        state: State = "dead" if dead else "waiting"
        with self._access.changing() as connection:
            connection.execute(
                "UPDATE delivery SET state = ?, tries = tries + 1, due = ?, trouble = ? WHERE id = ?",
                (state, again, trouble[:300], due.id),
            )
        return state

    def deliveries(self, state: State | None = None, most: int = 100) -> tuple[Delivery, ...]:
        """The newest deliveries, of one state or of all."""
        query = (
            "SELECT delivery.id, hook, type, state, tries, due, delivery.at, trouble FROM delivery "
            "JOIN hook ON hook.id = delivery.hook WHERE project = ? AND (? IS NULL OR state = ?) "
            "ORDER BY delivery.at DESC, delivery.rowid DESC LIMIT ?"
        )
        with self._access.changing() as connection:
            rows = connection.execute(query, (self._project, state, state, most)).fetchall()
        fields = ("id", "hook", "type", "state", "tries", "due", "at", "trouble")
        return tuple(Delivery(**dict(zip(fields, row, strict=True))) for row in rows)

    def resend(self, delivery: str) -> Delivery:
        """Send it again, from the first try on; a dead one comes to life, a delivered one is sent once more.

        Raises:
            NotFound: there is no such delivery, or its receiver has ended.
        """
        query = (
            "UPDATE delivery SET state = 'waiting', tries = 0, due = ? WHERE id = ? "
            "AND hook IN (SELECT id FROM hook WHERE project = ? AND ended IS NULL)"
        )
        with self._access.changing() as connection:
            connection.execute(query, (self._clock.now().isoformat(), delivery, self._project))
        for known in self.deliveries(most=10_000):
            if known.id == delivery and known.state == "waiting":
                return known
        raise NotFound(f"no delivery {delivery[:100]} to a receiver that is still there")
