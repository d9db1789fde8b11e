"""Who submitted a candidate can't waive its rules: a constraint, as for approvals.

A waiver that was recorded before has no row here and stays as it is; every new one needs its row.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table and its triggers."""
    op.create_table(
        "waiver",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("candidate", sa.String(71), nullable=False),
        sa.Column("submitter", sa.String(128), nullable=False),
        sa.Column("person", sa.String(128), nullable=False),
        sa.ForeignKeyConstraint(["candidate", "submitter"], ["submission.candidate", "submission.submitter"]),
        sa.CheckConstraint("lower(person) <> lower(submitter)", name="two_people_waive"),
    )
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_triggers()
    else:
        _postgresql_triggers()


def _sqlite_triggers() -> None:
    for verb in ("update", "delete"):
        op.execute(
            f"CREATE TRIGGER waiver_no_{verb} BEFORE {verb} ON waiver "
            f"BEGIN SELECT RAISE(ABORT, 'append_only: waiver takes no {verb}'); END"
        )
    op.execute(
        "CREATE TRIGGER waiver_once_no_replace BEFORE INSERT ON waiver "
        "WHEN EXISTS (SELECT 1 FROM waiver WHERE digest = NEW.digest) "
        "BEGIN SELECT RAISE(ABORT, 'waiver_once: this waiver is there already'); END"
    )
    op.execute(
        "CREATE TRIGGER record_guards_waiver BEFORE INSERT ON record "
        "WHEN NEW.kind = 'waiver' AND NOT EXISTS (SELECT 1 FROM waiver WHERE digest = NEW.digest) "
        "BEGIN SELECT RAISE(ABORT, 'guarded: a record of kind waiver needs its row in waiver'); END"
    )


def _postgresql_triggers() -> None:
    op.execute(
        "CREATE TRIGGER waiver_append_only BEFORE UPDATE OR DELETE ON waiver "
        "FOR EACH ROW EXECUTE FUNCTION auditsvc_append_only()"
    )
    op.execute(
        "CREATE TRIGGER waiver_no_truncate BEFORE TRUNCATE ON waiver "
        "FOR EACH STATEMENT EXECUTE FUNCTION auditsvc_append_only()"
    )
    op.execute(
        "CREATE FUNCTION auditsvc_guard_waiver() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.kind = 'waiver' AND NOT EXISTS (SELECT 1 FROM waiver WHERE digest = NEW.digest) THEN "
        "RAISE EXCEPTION 'guarded: a record of kind waiver needs its row in waiver' "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER record_guards_waiver BEFORE INSERT ON record "
        "FOR EACH ROW EXECUTE FUNCTION auditsvc_guard_waiver()"
    )
