"""The rows that follow from the records: those of the separation-of-duties constraints, and every other one.

``add_duties_row`` adds the row that the database compares when a record is added.

``ledger_faults`` derives everything in the database from its Merkle log again, and names what differs.  A program with
write access to the database can drop the triggers and delete or forge rows: without the row of a revocation, a revoked
release would be approved again.  The log's entries name every record by its digest, a record gives its rows in the
indexes, and the entries give the tree, whose root has been signed and published.  So a row that was removed, changed or
added is a difference between the log and the rest; a changed entry is a difference between the tree and its published
root, which ``services.log_check`` compares.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, insert, select

from auditsvc.adapters.ledger.schema import (
    approval,
    decision,
    leaf,
    node,
    person,
    release_rollback,
    retirement,
    revocation,
    submission,
    terms,
    waiver,
    watch,
)
from auditsvc.adapters.ledger.schema import record as records
from auditsvc.adapters.ledger.schema import subject as subjects
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.provenance.formats import merkle_log
from auditsvc.records import (
    Approval,
    Decision,
    Digest,
    Policy,
    Record,
    ReleaseTerms,
    Retirement,
    Revocation,
    Rollback,
    Submission,
    Waiver,
    WatchSettings,
    digest_of,
    person_key,
)
from auditsvc.records.base import decode_event

Row = dict[str, str]


def duties_row(digest: Digest, one: Record, submitter: str | None) -> tuple[Table, Row] | None:
    """The table and the row of a record; None for a kind that needs none.

    ``submitter`` is who submitted the candidate of an approval or a waiver.

    Raises:
        Conflict: the candidate was never submitted, or a key change names one person only.
    """
    match one:
        case Submission():
            return submission, {"candidate": one.candidate, "submitter": one.submitter}
        case Decision():
            return decision, {"digest": digest, "candidate": one.candidate}
        case Approval():
            row = {"digest": digest, "decision": one.decision, "candidate": one.candidate}
            return approval, {**row, "submitter": _required(submitter, one.candidate), "approver": one.approver}
        case Waiver():
            row = {"digest": digest, "candidate": one.candidate}
            return waiver, {**row, "submitter": _required(submitter, one.candidate), "person": one.person}
        case Revocation():
            people = {"requested_by": one.requested_by, "confirmed_by": one.confirmed_by}
            return revocation, {"digest": digest, "release": one.release, **people}
        case ReleaseTerms():
            return terms, {"digest": digest, "proposed_by": one.proposed_by, "confirmed_by": one.confirmed_by}
        case WatchSettings():
            return watch, {"digest": digest, "proposed_by": one.proposed_by, "confirmed_by": one.confirmed_by}
        case Rollback():
            people = {"requested_by": one.requested_by, "confirmed_by": one.confirmed_by}
            return release_rollback, {"digest": digest, **people}
        case Retirement(confirmed_by=None):
            raise Conflict("a key change needs two people: one requests it, another confirms it")
        case Retirement():
            return retirement, {"digest": digest, "requested_by": one.by, "confirmed_by": str(one.confirmed_by)}
        case _:
            return None


def _required(submitter: str | None, candidate: Digest) -> str:
    if submitter is None:
        raise Conflict(f"the candidate {candidate} was never submitted: submit it first")
    return submitter


_PERSON_FIELDS = ("submitter", "approver", "person", "proposed_by", "requested_by", "confirmed_by", "by", "reviewer")


def people_of(one: Record) -> Iterator[tuple[str, str]]:
    """The people that a record names: the key that names are compared by, and the name."""
    for name in (getattr(one, role, None) for role in _PERSON_FIELDS):
        if isinstance(name, str) and name:
            yield person_key(name), name


def _bind_names(connection: Connection, one: Record) -> None:
    for key, name in people_of(one):
        known = connection.execute(select(person.c.name).where(person.c.key == key)).scalar()
        if known is None:
            connection.execute(insert(person), {"key": key, "name": name})
        elif known.lower() != name.lower():
            raise Conflict(f"the name {name} reads like {known}, who is in the ledger: a person has one name")


def add_duties_row(connection: Connection, digest: Digest, one: Record) -> None:
    """Add the row that the separation-of-duties constraints check; most kinds of record need none.

    Raises:
        Conflict: another person submitted the candidate already, it was never submitted, an approval is about no
            decision of the ledger, another policy has this name and version, or a name reads like another one that is
            known.
    """
    _bind_names(connection, one)
    if isinstance(one, Policy):
        _require_own_version(connection, digest, one)
    about = one.candidate if isinstance(one, Submission | Approval | Waiver) else None
    submitter = None if about is None else _submitter(connection, about)
    if isinstance(one, Submission) and submitter is not None:
        if submitter.lower() != one.submitter.lower():
            raise Conflict(f"the candidate {about} was already submitted by {submitter}, not {one.submitter}")
        return
    needed = duties_row(digest, one, submitter)
    if isinstance(one, Approval):
        decided = connection.execute(select(decision.c.candidate).where(decision.c.digest == one.decision)).scalar()
        if decided != one.candidate:
            raise Conflict(f"the ledger has no decision {one.decision} about the candidate {one.candidate}")
    if needed is not None:
        connection.execute(insert(needed[0]), needed[1])


def _require_own_version(connection: Connection, digest: Digest, one: Policy) -> None:
    known = connection.execute(
        select(subjects.c.digest)
        .where(subjects.c.kind == Policy.kind, subjects.c.subject == f"{one.policy}/{one.version}")
        .order_by(subjects.c.position)
    ).scalars().all()  # fmt: skip
    if known and digest not in known:
        raise Conflict(
            f"the ledger holds another policy under the name {one.policy} version {one.version} ({known[0]}): "
            "give the changed policy a new version"
        )


def _submitter(connection: Connection, candidate: Digest) -> str | None:
    found = connection.execute(select(submission.c.submitter).where(submission.c.candidate == candidate)).scalar()
    return None if found is None else str(found)


_DERIVED = (
    subjects,
    submission,
    decision,
    approval,
    waiver,
    revocation,
    retirement,
    terms,
    release_rollback,
    watch,
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
    for digest, kind, body, position in connection.execute(select(records).order_by(records.c.position)):
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
            self.rows[subjects][kind, about, position, digest] = position
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
