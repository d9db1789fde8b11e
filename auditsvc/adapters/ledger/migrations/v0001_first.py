"""The first tables, and the triggers that make them append-only.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from auditsvc.adapters.ledger.migrations import append_only, guard, is_sqlite

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

_KEYS = {
    "record": {
        "record_once": "digest = NEW.digest",
        "record_in_order": "kind = NEW.kind AND position = NEW.position",
    },
    "subject": {"subject_once": "kind = NEW.kind AND subject = NEW.subject AND position = NEW.position"},
    "submission": {"submission_once": "candidate = NEW.candidate"},
    "decision": {"decision_once": "digest = NEW.digest"},
    "approval": {
        "approval_once": "digest = NEW.digest",
        "one_approval_each": "decision = NEW.decision AND lower(approver) = lower(NEW.approver)",
    },
    "revocation": {"revocation_once": "digest = NEW.digest"},
    "leaf": {"leaf_in_order": "idx = NEW.idx"},
    "node": {
        "node_once": "level = NEW.level AND idx = NEW.idx",
        "leaf_once": "level = 0 AND NEW.level = 0 AND hash = NEW.hash",
    },
}
"""Every append-only table, with a name and a condition for each of its unique keys."""

_GUARDED = ("decision", "approval", "revocation")
"""Kinds of record that need their row of the same digest first."""


def upgrade() -> None:
    """Create tables and triggers."""
    _records()
    _people()
    _log()
    if not is_sqlite():
        op.execute(
            "CREATE FUNCTION auditsvc_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'append_only: % takes no %', TG_TABLE_NAME, lower(TG_OP) "
            "USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
    for table, keys in _KEYS.items():
        append_only(table, keys)
    for kind in _GUARDED:
        guard(kind, kind)


def _records() -> None:
    op.create_table(
        "record",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
    )
    op.create_index("record_in_order", "record", ["kind", "position"], unique=True)
    op.create_table(
        "subject",
        sa.Column("kind", sa.String(64), primary_key=True),
        sa.Column("subject", sa.String(512), primary_key=True),
        sa.Column("position", sa.BigInteger, primary_key=True),
        sa.Column("digest", sa.String(71), sa.ForeignKey("record.digest"), nullable=False),
    )


def _people() -> None:
    op.create_table(
        "submission",
        sa.Column("candidate", sa.String(71), primary_key=True),
        sa.Column("submitter", sa.String(128), nullable=False),
        sa.UniqueConstraint("candidate", "submitter", name="one_submitter"),
    )
    op.create_table(
        "decision",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("candidate", sa.String(71), nullable=False),
        sa.UniqueConstraint("digest", "candidate", name="one_candidate"),
    )
    op.create_table(
        "approval",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("decision", sa.String(71), nullable=False),
        sa.Column("candidate", sa.String(71), nullable=False),
        sa.Column("submitter", sa.String(128), nullable=False),
        sa.Column("approver", sa.String(128), nullable=False),
        sa.ForeignKeyConstraint(["candidate", "submitter"], ["submission.candidate", "submission.submitter"]),
        sa.ForeignKeyConstraint(["decision", "candidate"], ["decision.digest", "decision.candidate"]),
        sa.CheckConstraint("lower(approver) <> lower(submitter)", name="two_people_approve"),
    )
    op.create_index("one_approval_each", "approval", ["decision", sa.text("lower(approver)")], unique=True)
    op.create_table(
        "revocation",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("release", sa.String(71), nullable=False),
        sa.Column("requested_by", sa.String(128), nullable=False),
        sa.Column("confirmed_by", sa.String(128), nullable=False),
        sa.CheckConstraint("lower(requested_by) <> lower(confirmed_by)", name="two_people_revoke"),
    )


def _log() -> None:
    index = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "leaf",
        sa.Column("idx", index, primary_key=True, autoincrement=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("object", sa.String(71), nullable=False),
    )
    op.create_index("leaf_of_object", "leaf", ["object", "idx"])
    op.create_table(
        "node",
        sa.Column("level", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("idx", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
    )
    level_zero = sa.text("level = 0")
    op.create_index("leaf_once", "node", ["hash"], unique=True, sqlite_where=level_zero, postgresql_where=level_zero)
