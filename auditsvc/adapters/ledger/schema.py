"""The tables of the ledger, as the newest migration leaves them.

``record`` holds the canonical bytes of every record.  ``subject`` is the index behind ``find``.  ``submission``,
``decision``, ``approval``, ``waiver``, ``revocation``, ``retirement``, ``terms`` and ``watch`` repeat the few fields
that the database itself compares, so that separation of duties is a constraint: no program that writes to these tables
can break it.  A trigger refuses a record of the last seven kinds that has no row in its table, another one an approval
or a release of a decision that a newer one supersedes.  ``leaf`` and ``node`` are the Merkle tree (RFC 6962) over all
events.

Names of people are compared case-insensitively: ``Bob`` can't approve what ``bob`` submitted.  ``person`` keeps one
name for each person, so ``bob.`` is refused where ``bob`` is known.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    func,
    text,
)

from auditsvc.adapters.sql import Schema

metadata = MetaData()

_Digest = String(71)
_Person = String(128)

record = Table(
    "record",
    metadata,
    Column("digest", _Digest, primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("position", BigInteger, nullable=False),
    Index("record_in_order", "kind", "position", unique=True),
)
"""``position`` is the index of the record's event in the log."""

subject = Table(
    "subject",
    metadata,
    Column("kind", String(64), primary_key=True),
    Column("subject", String(512), primary_key=True),
    Column("position", BigInteger, primary_key=True),
    Column("digest", _Digest, ForeignKey("record.digest"), nullable=False),
)

submission = Table(
    "submission",
    metadata,
    Column("candidate", _Digest, primary_key=True),
    Column("submitter", _Person, nullable=False),
    UniqueConstraint("candidate", "submitter", name="one_submitter"),
)

decision = Table(
    "decision",
    metadata,
    Column("digest", _Digest, primary_key=True),
    Column("candidate", _Digest, nullable=False),
    UniqueConstraint("digest", "candidate", name="one_candidate"),
)

approval = Table(
    "approval",
    metadata,
    Column("digest", _Digest, primary_key=True),
    Column("decision", _Digest, nullable=False),
    Column("candidate", _Digest, nullable=False),
    Column("submitter", _Person, nullable=False),
    Column("approver", _Person, nullable=False),
    ForeignKeyConstraint(["candidate", "submitter"], ["submission.candidate", "submission.submitter"]),
    ForeignKeyConstraint(["decision", "candidate"], ["decision.digest", "decision.candidate"]),
    CheckConstraint("lower(approver) <> lower(submitter)", name="two_people_approve"),
)
Index("one_approval_each", approval.c.decision, func.lower(approval.c.approver), unique=True)

waiver = Table(
    "waiver",
    metadata,
    Column("digest", _Digest, primary_key=True),
    Column("candidate", _Digest, nullable=False),
    Column("submitter", _Person, nullable=False),
    Column("person", _Person, nullable=False),
    ForeignKeyConstraint(["candidate", "submitter"], ["submission.candidate", "submission.submitter"]),
    CheckConstraint("lower(person) <> lower(submitter)", name="two_people_waive"),
)


def _two_people(name: str, constraint: str, *about: Column[str], first: str = "requested_by") -> Table:
    """The table of a kind of record that names two people, who must differ."""
    return Table(
        name,
        metadata,
        Column("digest", _Digest, primary_key=True),
        *about,
        Column(first, _Person, nullable=False),
        Column("confirmed_by", _Person, nullable=False),
        CheckConstraint(f"lower({first}) <> lower(confirmed_by)", name=constraint),
    )


revocation = _two_people("revocation", "two_people_revoke", Column("release", _Digest, nullable=False))
retirement = _two_people("retirement", "two_people_retire")
terms = _two_people("terms", "two_people_set_terms", first="proposed_by")
watch = _two_people("watch", "two_people_set_watch", first="proposed_by")
release_rollback = _two_people("release_rollback", "two_people_roll_back")

person = Table(
    "person",
    metadata,
    Column("key", _Person, primary_key=True),
    Column("name", _Person, nullable=False),
)
"""Every name in the ledger as it was written first, by the key that names are compared by."""

leaf = Table(
    "leaf",
    metadata,
    Column("idx", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
    Column("object", _Digest, nullable=False),
    Index("leaf_of_object", "object", "idx"),
)

node = Table(
    "node",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
)
"""The hash of every complete subtree: level 0 holds the leaves, one above it each pair of them, and so on up."""


def leaf_once() -> Index:
    """The unique index on the hashes of level 0, added to ``node`` when called.

    It is not declared with the table: a condition of a dialect makes SQLAlchemy import SQLite's and PostgreSQL's
    dialects.  The migration creates it.
    """
    level_zero = text("level = 0")
    return Index("leaf_once", node.c.hash, unique=True, sqlite_where=level_zero, postgresql_where=level_zero)


_SECOND_PERSON = "a different person must"

SCHEMA = Schema(
    tables=metadata,
    head="0007",
    version_table="auditsvc_revision",
    migrations="auditsvc.adapters.ledger.migrations",
    conflicts={
        "two_people_approve": f"the submitter of a candidate can't approve it: {_SECOND_PERSON} approve it",
        "two_people_waive": f"the submitter of a candidate can't waive its rules: {_SECOND_PERSON} waive them",
        "two_people_retire": f"the person who requested a key change can't confirm it: {_SECOND_PERSON} confirm it",
        "two_people_revoke": f"the person who requested a revocation can't confirm it: {_SECOND_PERSON} confirm it",
        "two_people_set_terms": f"the person who proposed terms can't confirm them: {_SECOND_PERSON} confirm them",
        "two_people_roll_back": f"the person who requested a rollback can't confirm it: {_SECOND_PERSON} confirm it",
        "two_people_set_watch": f"the person who proposed settings can't confirm them: {_SECOND_PERSON} confirm them",
        "one_approval_each": "this person has already approved this decision: another person must approve it too",
        "submission_once": "this candidate was already submitted by another person",
        "superseded": "this decision is superseded by a newer one: approve or release that one",
        "guarded": "the ledger refuses decisions, approvals, waivers, revocations, key retirements and terms without "
        "their checks",
        "append_only": "the ledger is append-only: nothing in it can be changed or deleted",
    },
)
