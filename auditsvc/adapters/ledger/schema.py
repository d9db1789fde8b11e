"""The tables of the ledger, as the newest migration leaves them.

``record`` holds every record's canonical bytes.  ``subject`` is the index behind ``find``.  ``submission``,
``decision``, ``approval``, ``waiver``, ``revocation`` and ``retirement`` repeat the few fields that the database itself
must compare, so that the two-person rule is a constraint: whoever writes to these tables, by whatever program, can't
break it.  A record of the last five kinds can't be added before its row is there (a trigger says so).
``leaf`` and ``node`` are the Merkle tree (RFC 6962) over everything that happened.

Names of people are compared without regard to case: ``Bob`` can't approve what ``bob`` submitted.
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

HEAD = "0003"
"""The revision that this code reads and writes; a test compares it with the migrations."""

VERSION_TABLE = "auditsvc_revision"
"""Where the store's own revision is kept; a name of its own, as MLflow may share the database."""

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
"""``position`` is the index of the record's event in the log: the order of things."""

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

revocation = Table(
    "revocation",
    metadata,
    Column("digest", _Digest, primary_key=True),
    Column("release", _Digest, nullable=False),
    Column("requested_by", _Person, nullable=False),
    Column("confirmed_by", _Person, nullable=False),
    CheckConstraint("lower(requested_by) <> lower(confirmed_by)", name="two_people_revoke"),
)

retirement = Table(
    "retirement",
    metadata,
    Column("digest", _Digest, primary_key=True),
    Column("requested_by", _Person, nullable=False),
    Column("confirmed_by", _Person, nullable=False),
    CheckConstraint("lower(requested_by) <> lower(confirmed_by)", name="two_people_retire"),
)

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
    Index("leaf_once", "hash", unique=True, sqlite_where=text("level = 0"), postgresql_where=text("level = 0")),
)
"""The hash of every complete subtree: level 0 holds the leaves, one above it each pair of them, and so on up."""
