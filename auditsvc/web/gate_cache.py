"""A cache of gate responses, invalidated by changes of the ledger.

A response reads several records and checks each digest, which takes about a millisecond, most of it CPU time.  SQLite
is read on the event loop itself: its readers never wait, and a busy thread would block the loop for longer than the
query takes.  Other databases are queried from a few threads.

Whether the ledger changed is checked for every request, in microseconds: SQLite counts the commits of all processes
(``PRAGMA data_version``); other databases are asked for the size of the log.  The cache is cleared if a new log entry
can change a response, so a response is never older than the last commit: a revocation by any process takes effect at
the next request.  A commit without a new log entry is none of ours: the ledger is compared with its log again at once.
Waivers and mutes end, so no answer is kept for longer than an hour.
"""

from __future__ import annotations

import datetime
import hashlib
import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from auditsvc.records import (
    Alarm,
    AlarmMute,
    Approval,
    Decision,
    DriftAlarm,
    Objection,
    Policy,
    RegistryFinding,
    Release,
    ReleaseTerms,
    Revocation,
    Submission,
    WatchSettings,
)
from auditsvc.records.base import decode_event
from auditsvc.services.gate_query import query_gate

if TYPE_CHECKING:
    from auditsvc.ports import Clock, LoggedLedger
    from auditsvc.records import Moment

_KINDS = (Submission, Decision, Policy, Approval, Objection, Release, Revocation, ReleaseTerms, Alarm, RegistryFinding,
          WatchSettings, DriftAlarm, AlarmMute)  # fmt: skip
CHANGING = frozenset(kind.event for kind in _KINDS)
"""Records that can change an answer; evidence, models, recipes and where the alias belongs can't."""

REMEMBERED = 100_000
"""Answers in memory, about 1 kB each; the one that was not asked for longest is forgotten first."""

AT_ONCE = 4
"""Threads that ask a database other than SQLite; more would wait for each other and not for the database."""

Question = tuple[str, str, str | None]


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """One answer as bytes, with its entity tag."""

    body: bytes
    etag: str


class GateCache:
    """Asks the ledger, or its own memory.  Used from the event loop only."""

    def __init__(
        self, ledger: LoggedLedger, database: Path | None, remembered: int = REMEMBERED, clock: Clock | None = None
    ) -> None:
        """``database`` is the ledger's SQLite file, where it is one; without ``clock`` no waiver ends."""
        self._ledger, self._limit, self._clock = ledger, remembered, clock
        self._hour: datetime.datetime | None = None
        self._watch = sqlite3.connect(database, isolation_level=None, check_same_thread=False) if database else None
        self._threads = CapacityLimiter(AT_ONCE)
        self._commits: int | None = None
        self._size = 0
        self._found: OrderedDict[Question, CachedAnswer] = OrderedDict()
        self.recheck: Callable[[], object] = lambda: None
        """Called before the next answer where another program changed the database without an entry in the log."""

    def __len__(self) -> int:
        """How many answers are remembered."""
        return len(self._found)

    def close(self) -> None:
        """Close the connection to the database."""
        if self._watch:
            self._watch.close()

    async def ask(self, model: str, version: str, policy: str | None) -> CachedAnswer:
        """The response for the current state of the ledger.

        Raises:
            NotFound: this version was not submitted.
            Unavailable: the ledger can't be read.
        """
        question = (model, version, policy)
        at = self._clock.now() if self._clock else None
        if at is not None and (hour := at.replace(minute=0, second=0, microsecond=0)) != self._hour:
            self._hour = hour
            self._found.clear()
        await self._forget_what_changed()
        known = self._found.get(question)
        if known is not None:
            self._found.move_to_end(question)
            return known
        size = self._size
        if self._watch:
            answered = _asked(self._ledger, question, at)
        else:
            answered = await run_sync(_asked, self._ledger, question, at, limiter=self._threads)
        if size == self._size:
            self._found[question] = answered
            if len(self._found) > self._limit:
                self._found.popitem(last=False)
        return answered

    async def _forget_what_changed(self) -> None:
        while True:
            commits = self._watch.execute("PRAGMA data_version").fetchone()[0] if self._watch else None
            if commits is not None and commits == self._commits:
                return
            before = self._size
            size, changing = await run_sync(_news, self._ledger, before)
            if before == self._size:  # else another request was faster, and may have looked too early for this one
                unlogged = size == before and self._commits is not None
                self._size, self._commits = size, commits
                if unlogged:
                    await run_sync(self.recheck)
                if changing or unlogged:
                    self._found.clear()
                return


def _news(ledger: LoggedLedger, seen: int) -> tuple[int, bool]:
    """The size of the log, and whether something after the first ``seen`` entries can change an answer."""
    size = ledger.size()
    if size - seen > 200 or size < seen:
        return size, True
    return size, any(_changes(ledger.leaf(index)) for index in range(seen, size))


def _changes(leaf: bytes) -> bool:
    event = decode_event(leaf)
    return event is not None and event["type"] in CHANGING


def _asked(ledger: LoggedLedger, question: Question, at: Moment | None) -> CachedAnswer:
    body = query_gate(ledger, *question, at=at).model_dump_json(exclude_none=True).encode()
    return CachedAnswer(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"')
