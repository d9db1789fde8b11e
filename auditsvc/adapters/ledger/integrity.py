"""Derives everything in the ledger's database from its Merkle log again, and names what differs.

A program with write access to the database can drop the triggers and delete or forge rows: without the row of a
revocation, a revoked release would be approved again.  The log's entries name every record by its digest, a record
gives its rows in the indexes, and the entries give the tree, whose root has been signed and published.  So a row that
was removed, changed or added is a difference between the log and the rest; a changed entry is a difference between the
tree and its published root, which ``services.log_check`` compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, select

from auditsvc.adapters.ledger.duties import duties_row, people_of
from auditsvc.adapters.ledger.schema import (
    approval,
    decision,
    leaf,
    node,
    person,
    record,
    release_rollback,
    retirement,
    revocation,
    subject,
    submission,
    terms,
    waiver,
)
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.provenance.formats import merkle_log
from auditsvc.records import Digest, Record, Submission, digest_of
from auditsvc.records.log_event import decode_event

_DERIVED = (
    subject,
    submission,
    decision,
    approval,
    waiver,
    revocation,
    retirement,
    terms,
    release_rollback,
    person,
)
_ADDED_LATER = (waiver, retirement, release_rollback)
"""Tables that did not exist from the first version on: records from before have no row in them."""


@cache
def _kinds() -> dict[str, type[Record]]:
    """Every kind of record that a ledger holds, by its name."""
    import auditsvc.compliance.assessment.attestations
    import auditsvc.records.eligibility  # noqa: F401 - defines further kinds

    found: dict[str, type[Record]] = {}
    pending: list[type[Record]] = [Record]
    while pending:
        kind = pending.pop()
        pending += kind.__subclasses__()
        if hasattr(kind, "event"):
            found[kind.kind] = kind
    return found


def ledger_faults(connection: Connection) -> Iterator[str]:
    """Every difference between the log and the rest of the database, one sentence each; none if all is well.

    Reads the whole ledger: about 0.2 ms for a small record.  Needs one read transaction.
    """
    logged = _Logged()
    yield from logged.read(connection)
    derived = _Derived()
    for digest, kind, body, position in connection.execute(select(record).order_by(record.c.position)):
        yield from logged.faults_of(digest, kind, position)
        yield from derived.add(digest, kind, body.encode() if isinstance(body, str) else bytes(body), position)
    for digest, (index, event) in logged.records.items():
        yield f"log entry {index} ({event}) is about the record {digest}, which is missing"
    for table in _DERIVED:
        yield from derived.compare(connection, table)


@dataclass
class _Logged:
    """What the entries of the log say: the index and event of every record, taken out as the records are read."""

    records: dict[Digest, tuple[int, str]] = field(default_factory=dict)

    def read(self, connection: Connection) -> Iterator[str]:
        """Read all entries; the faults of their order, their index and the tree over them."""
        events = {kind.event for kind in _kinds().values()}
        tree: dict[tuple[int, int], bytes] = {}
        rows = connection.execute(select(leaf.c.idx, leaf.c.data, leaf.c.object).order_by(leaf.c.idx))
        for expected, (index, data, about) in enumerate(rows):
            if index != expected:
                yield f"log entry {expected} is missing"
                return
            event = decode_event(data)
            is_record = event is not None and event["type"] in events
            named = str(event.get("object")) if event is not None and is_record else digest_of(data)
            if about != named:
                yield f"the index of the log says that entry {index} is about {about}, but it is about {named}"
            if event is not None and is_record:
                self.records[named] = (index, str(event["type"]))
            for level, at, value in merkle_log.completed(index, merkle_log.leaf_hash(data), _reader(tree)):
                tree[level, at] = value
        stored = {(level, at): bytes(value) for level, at, value in connection.execute(select(node))}
        wrong = sorted(place for place in tree.keys() | stored.keys() if tree.get(place) != stored.get(place))
        if wrong:
            level, at = wrong[0]
            yield f"{len(wrong)} nodes of the log's tree do not follow from its entries, the first at {level}/{at}"

    def faults_of(self, digest: Digest, kind: str, position: int) -> Iterator[str]:
        """Whether the log has this record, at this position and as this kind."""
        index, event = self.records.pop(digest, (None, ""))
        if index is None:
            yield f"the {kind} record {digest} has no entry in the log"
        elif index != position or kind not in _kinds() or _kinds()[kind].event != event:
            yield f"the {kind} record {digest} at position {position} has the log entry {index} ({event})"


def _reader(tree: dict[tuple[int, int], bytes]) -> merkle_log.Nodes:
    return lambda level, index: tree[level, index]


@dataclass
class _Derived:
    """The rows that the records give, with the position of the record in the log."""

    rows: dict[Table, dict[tuple[Any, ...], int]] = field(default_factory=lambda: {table: {} for table in _DERIVED})
    submitters: dict[Digest, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def add(self, digest: Digest, kind: str, body: bytes, position: int) -> Iterator[str]:
        """Derive the rows of one record; its own faults."""
        if digest_of(body) != digest:
            yield f"the {kind} record {digest} has other bytes than its digest says"
            return
        try:
            one = _kinds()[kind].stored(body, digest)
        except (KeyError, InvalidInput) as error:
            yield f"the {kind} record {digest} can't be read: {error}"
            return
        for about in one.subjects():
            self.rows[subject][kind, about, position, digest] = position
        for key, name in people_of(one):
            if self.names.setdefault(key, name) == name:
                self.rows[person].setdefault((key, name), position)
        try:
            self._add_duties(digest, one, position)
        except Conflict as error:
            if kind != "retirement":  # an old one names one person, and has no row
                yield f"the {kind} record {digest} breaks a rule of the ledger: {error}"

    def _add_duties(self, digest: Digest, one: Record, position: int) -> None:
        about = getattr(one, "candidate", None)
        if isinstance(one, Submission) and self.submitters.setdefault(one.candidate, one.submitter) != one.submitter:
            return
        needed = duties_row(digest, one, self.submitters.get(str(about)))
        if needed is not None:
            table, row = needed
            self.rows[table].setdefault(tuple(row[column.name] for column in table.columns), position)

    def compare(self, connection: Connection, table: Table) -> Iterator[str]:
        """The rows that a table lacks, and those that it has without a record."""
        expected = self.rows[table]
        stored = {tuple(row) for row in connection.execute(select(table))}
        lacking = expected.keys() - stored
        if table in _ADDED_LATER:
            first = min((expected[row] for row in expected.keys() & stored), default=None)
            lacking = {row for row in lacking if first is not None and expected[row] > first}
        yield from _named(f"the table {table.name} lacks", lacking)
        yield from _named(f"no record gives this row of the table {table.name}:", stored - expected.keys())


def _named(what: str, rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    for row in sorted(rows, key=str):
        yield f"{what} {', '.join(str(value) for value in row)}"
