"""A large ledger in seconds: rows as the ledger writes them, made from templates and put in by the thousand.

A record of each kind is made once in full; the others differ in digests and numbers, which are replaced in its
canonical bytes.  The log's tree is hashed by the product's own ``tlog``, and the database's triggers see every row.
``check`` reads some of it back through the ledger, which compares every body with its digest.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from auditsvc.adapters.ledger import SqlLedger
from auditsvc.provenance.formats import merkle_log
from auditsvc.records import (
    Approval,
    Candidate,
    Decision,
    Recipe,
    Record,
    Release,
    Submission,
    canonical_json,
    digest_of,
    person_key,
)
from tests.fakes import NOON

SENTINEL = 77_777_777
BATCH = 5000

_INSERTS = {
    "submission": "INSERT INTO submission VALUES (?,?)",
    "decision": "INSERT INTO decision VALUES (?,?)",
    "approval": "INSERT INTO approval VALUES (?,?,?,?,?)",
    "leaf": "INSERT INTO leaf VALUES (?,?,?)",
    "node": "INSERT INTO node VALUES (?,?,?)",
    "record": "INSERT INTO record VALUES (?,?,?,?)",
    "subject": "INSERT INTO subject VALUES (?,?,?,?)",
}
"""In this order: what guards a record comes before it."""


class Replaced:
    """The canonical bytes and subjects of one record, for another number."""

    def __init__(self, record: Record) -> None:
        self.kind, self.digest, self._body = record.kind, record.digest, record.canonical().decode()
        self._subjects = sorted(set(record.subjects()))

    def made(self, changes: Sequence[tuple[str, str]]) -> tuple[str, bytes, list[str]]:
        """Digest, bytes and subjects, with every change made in all of them."""
        body, subjects = self._body, "\n".join(self._subjects)
        for old, new in changes:
            body, subjects = body.replace(old, new), subjects.replace(old, new)
        data = body.encode()
        return digest_of(data), data, subjects.split("\n")


@dataclass
class Filler:
    """Rows for one ledger that has ``size`` leaves so far."""

    size: int
    nodes: dict[tuple[int, int], bytes]
    rows: dict[str, list[tuple[object, ...]]] = field(default_factory=lambda: {table: [] for table in _INSERTS})

    def add(self, kind: str, event_type: str, digest: str, body: bytes, subjects: Sequence[str]) -> None:
        """One record with its event, its place in the tree and its subjects."""
        leaf = _event({"type": event_type, "object": digest})
        for level, index, value in merkle_log.completed(self.size, merkle_log.leaf_hash(leaf), self._node):
            self.nodes[level, index] = value
            self.rows["node"].append((level, index, value))
            if level:
                for child in (2 * index, 2 * index + 1):
                    self.nodes.pop((level - 1, child), None)
        self.rows["leaf"].append((self.size, leaf, digest))
        self.rows["record"].append((digest, kind, body, self.size))
        self.rows["subject"] += [(kind, about, self.size, digest) for about in subjects]
        self.size += 1

    def _node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]

    def flush(self, connection: sqlite3.Connection) -> None:
        """Put the rows in, all or none."""
        with connection:
            for table, insert in _INSERTS.items():
                connection.executemany(insert, self.rows[table])
                self.rows[table].clear()


_EVENT = canonical_json(
    {
        "kind": "auditsvc.event",
        "apiVersion": "2",
        "type": "TYPE",
        "actor": "bench",
        "at": NOON.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "object": "OBJECT",
    }
).decode()


def _event(told: dict[str, str]) -> bytes:
    return _EVENT.replace("TYPE", told["type"]).replace("OBJECT", told["object"]).encode()


def fill_fast(path: str, ledger: SqlLedger, makers: Sequence[Sequence[Record]], candidates: int) -> None:
    """Add so many candidates; ``makers`` are the records of ``SENTINEL``: released ones first, then the others."""
    size = ledger.size()
    nodes = {(0, index): merkle_log.leaf_hash(ledger.leaf(index)) for index in range(size)}
    filler = Filler(0, {})
    for index in range(size):  # the frontier of the tree as it stands
        for level, at, value in merkle_log.completed(index, nodes[0, index], filler._node):
            filler.nodes[level, at] = value
    filler.size = size
    templates = [[Replaced(_recipe(records)), *(Replaced(record) for record in records)] for records in makers]
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        fields = ("submitter", "approver")
        names = {getattr(one, field, "") for records in makers for one in records for field in fields} - {""}
        known = {key for (key,) in connection.execute("SELECT key FROM person")}
        people = [(person_key(name), name) for name in sorted(names) if person_key(name) not in known]
        connection.executemany("INSERT INTO person VALUES (?,?)", people)
        for number in range(candidates):
            kind = 0 if number % 10 == 0 else 1
            _one(filler, makers[kind], templates[kind], number)
            if number % BATCH == BATCH - 1:
                filler.flush(connection)
        filler.flush(connection)


def _recipe(records: Sequence[Record]) -> Recipe:
    """The recipe of the candidate among these records, whose digest is part of what it is found by."""
    recipes = [item.recipe for item in records if isinstance(item, Candidate)]
    if recipes[0] is None:
        raise ValueError("the candidate of a filled ledger has a recipe")
    return recipes[0]


def _one(filler: Filler, records: Sequence[Record], templates: Sequence[Replaced], number: int) -> None:
    changes = [
        (digest_of(f"weights {SENTINEL}".encode()), digest_of(f"weights {number}".encode())),
        (f'"seed":{SENTINEL}', f'"seed":{number}'),
        (f'"version":"{SENTINEL + 1}"', f'"version":"{number + 1}"'),
        (f"net/{SENTINEL + 1}", f"net/{number + 1}"),
    ]
    candidate = ""
    changes.append((templates[0].digest, templates[0].made(changes)[0]))
    for record, template in zip(records, templates[1:], strict=True):
        digest, body, subjects = template.made(changes)
        changes.append((template.digest, digest))
        if isinstance(record, Candidate):
            candidate = digest
        for table, row in _guards(record, digest, candidate, changes):
            filler.rows[table].append(row)
        filler.add(record.kind, record.event, digest, body, subjects)


def _guards(
    record: Record, digest: str, candidate: str, changes: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, tuple[object, ...]]]:
    match record:
        case Submission():
            yield "submission", (candidate, record.submitter)
        case Decision():
            yield "decision", (digest, candidate)
        case Approval():
            decision = dict(changes)[record.decision]
            yield "approval", (digest, decision, candidate, "ann", record.approver)


def check(ledger: SqlLedger, candidates: int) -> None:
    """Read some of it back; anything that does not fit its digest, its proof or its subject is an error."""
    for number in (0, 1, candidates // 2, candidates - 1):
        (submission,) = ledger.find(Submission, f"net/{number + 1}")
        found = ledger.get(Candidate, submission.candidate)
        (decision,) = ledger.find(Decision, found.digest)
        released = ledger.find(Release, decision.digest)
        index, size = ledger.leaf_index(decision.digest), ledger.size()
        path, leaf = ledger.inclusion(index, size), merkle_log.leaf_hash(ledger.leaf(index))
        good = merkle_log.includes(leaf, index, size, path, ledger.root(size))
        if not good or bool(released) != (number % 10 == 0):
            raise ValueError(f"the filled ledger is not whole at candidate {number}")
