"""The ledger in memory, with the same constraints as the one in SQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from auditsvc.adapters.ledger.integrity import people_of
from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.ports import Clock
from auditsvc.records import (
    Approval,
    Decision,
    Digest,
    Policy,
    Record,
    Release,
    ReleaseTerms,
    Retirement,
    Revocation,
    Rollback,
    Submission,
    Waiver,
    WatchSettings,
    digest_of,
)
from auditsvc.records.base import encode_event
from tests.fakes.clock import FixedClock
from tests.fakes.log import MemoryLog

R = TypeVar("R", bound=Record)


class MemoryLedger(MemoryLog):
    """``ports.Ledger`` and ``ports.Log``: records in a dictionary, in order, each with its event in the log."""

    def __init__(self, clock: Clock | None = None) -> None:
        super().__init__()
        self._clock = clock or FixedClock()
        self._records: dict[Digest, Record] = {}
        self._one_writer = threading.RLock()

    def append(self, *records: Record, actor: str) -> None:
        if not actor.strip():
            raise InvalidInput("an entry in the ledger needs the name of its actor")
        with self._one_writer:
            after = dict(self._records)
            for one in records:
                if one.digest not in after:
                    _allow(one, tuple(after.values()))
                    after[one.digest] = one
            new = [digest for digest in after if digest not in self._records]
            self._records = after
            for digest in new:
                self.note_object(digest, super().append_leaf(self._event(after[digest], actor)))

    def _event(self, one: Record, actor: str) -> bytes:
        return encode_event(one.event, actor, self._clock.now(), object=one.digest)

    @contextmanager
    def snapshot(self) -> Iterator[MemoryLedger]:
        now = MemoryLedger(self._clock)
        now._records, now._objects = self._records, self._objects
        yield now

    def get(self, kind: type[R], digest: Digest) -> R:
        found = self._records.get(digest)
        if not isinstance(found, kind):
            raise NotFound(f"no {kind.kind} record {digest}")
        return found

    def find(self, kind: type[R], subject: str) -> tuple[R, ...]:
        return tuple(one for one in self.all(kind) if subject in one.subjects())

    def all(self, kind: type[R]) -> Iterator[R]:
        return (one for one in tuple(self._records.values()) if isinstance(one, kind))

    def page(
        self, kind: type[R], *, subject: str = "", before: int | None = None, limit: int = 20
    ) -> tuple[tuple[int, R], ...]:
        found = [
            (self.leaf_index(one.digest), one) for one in self.all(kind) if not subject or subject in one.subjects()
        ]
        newest = sorted(found, key=lambda item: item[0], reverse=True)
        return tuple(item for item in newest if before is None or item[0] < before)[:limit]

    def bodies(self) -> Iterator[bytes]:
        return (one.canonical() for one in self._records.values())

    def faults(self) -> tuple[str, ...]:
        return ()

    def leaf(self, index: int) -> bytes:
        if not 0 <= index < self.size():
            raise NotFound(f"the log has no leaf {index}")
        return self.leaves[index]

    def append_leaf(self, data: bytes) -> int:
        with self._one_writer:
            index = super().append_leaf(data)
            self.note_object(digest_of(data), index)
            return index

    def root(self, size: int) -> bytes:
        self._must_hold(size)
        return super().root(size)

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        self._must_hold(size)
        if not 0 <= index < size:
            raise NotFound(f"a log of {size} leaves has no leaf {index}")
        return super().inclusion(index, size)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        self._must_hold(new)
        if not 0 <= old <= new:
            raise NotFound(f"a log of {new} leaves does not extend one of {old}")
        return super().consistency(old, new)

    def _must_hold(self, size: int) -> None:
        if not 0 <= size <= self.size():
            raise NotFound(f"the log has {self.size()} leaves, not {size}")


def _allow(one: Record, there: tuple[Record, ...]) -> None:
    """Raise ``Conflict`` where the SQL ledger's constraints would."""
    known = {key: name for before in there for key, name in people_of(before)}
    for key, name in people_of(one):
        if known.get(key, name).lower() != name.lower():
            raise Conflict(f"the name {name} reads like {known[key]}")
    match one:
        case Rollback() if _same(one.requested_by, one.confirmed_by):
            raise Conflict("the requester of a rollback can't confirm it")
        case Submission():
            others = [s.submitter for s in there if isinstance(s, Submission) and s.candidate == one.candidate]
            if others and not _same(others[0], one.submitter):
                raise Conflict(f"{one.candidate} was already submitted by {others[0]}")
        case Approval():
            _allow_approval(one, there)
        case Release():
            _require_newest(one.decision, there)
        case Policy():
            if any(isinstance(p, Policy) and (p.policy, p.version) == (one.policy, one.version) for p in there):
                raise Conflict(f"the ledger holds another policy under the name {one.policy} version {one.version}")
        case ReleaseTerms() if _same(one.proposed_by, one.confirmed_by):
            raise Conflict("the person who proposed terms can't confirm them")
        case WatchSettings() if _same(one.proposed_by, one.confirmed_by):
            raise Conflict("the person who proposed settings can't confirm them")
        case Waiver():
            submitted = [s.submitter for s in there if isinstance(s, Submission) and s.candidate == one.candidate]
            if not submitted:
                raise Conflict("never submitted")
            if _same(submitted[0], one.person):
                raise Conflict("the submitter of a candidate can't waive its rules")
        case Retirement() if one.confirmed_by is None or _same(one.by, one.confirmed_by):
            raise Conflict("a key change needs two people: the requester can't confirm it")
        case Revocation() if _same(one.requested_by, one.confirmed_by):
            raise Conflict("the requester of a revocation can't confirm it")


def _allow_approval(one: Approval, there: tuple[Record, ...]) -> None:
    submitted = [s for s in there if isinstance(s, Submission) and s.candidate == one.candidate]
    if not submitted:
        raise Conflict("never submitted")
    if not any(isinstance(d, Decision) and (d.digest, d.candidate) == (one.decision, one.candidate) for d in there):
        raise Conflict("no such decision about this candidate")
    _require_newest(one.decision, there)
    if _same(submitted[0].submitter, one.approver):
        raise Conflict("the submitter of a candidate can't approve it")
    before = [a for a in there if isinstance(a, Approval) and a.decision == one.decision]
    if any(_same(a.approver, one.approver) for a in before):
        raise Conflict("this person has already approved this decision")


def _require_newest(digest: Digest, there: tuple[Record, ...]) -> None:
    decisions = [one for one in there if isinstance(one, Decision)]
    about = [one for one in decisions if one.digest == digest]
    if about and [one for one in decisions if one.supersedes(about[0])][-1] != about[0]:
        raise Conflict("this decision is superseded by a newer one")


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()
