"""A signing key changes by two people: one asks, another confirms.

A retirement that was recorded before has no row here and stays as it is; every new one needs its row.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table and its triggers."""
    op.create_table(
        "retirement",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("requested_by", sa.String(128), nullable=False),
        sa.Column("confirmed_by", sa.String(128), nullable=False),
        sa.CheckConstraint("lower(requested_by) <> lower(confirmed_by)", name="two_people_retire"),
    )
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_triggers()
    else:
        _postgresql_triggers()


def _sqlite_triggers() -> None:
    for verb in ("update", "delete"):
        op.execute(
            f"CREATE TRIGGER retirement_no_{verb} BEFORE {verb} ON retirement "
            f"BEGIN SELECT RAISE(ABORT, 'append_only: retirement takes no {verb}'); END"
        )
    op.execute(
        "CREATE TRIGGER retirement_once_no_replace BEFORE INSERT ON retirement "
        "WHEN EXISTS (SELECT 1 FROM retirement WHERE digest = NEW.digest) "
        "BEGIN SELECT RAISE(ABORT, 'retirement_once: this retirement is there already'); END"
    )
    op.execute(
        "CREATE TRIGGER record_guards_retirement BEFORE INSERT ON record "
        "WHEN NEW.kind = 'retirement' AND NOT EXISTS (SELECT 1 FROM retirement WHERE digest = NEW.digest) "
        "BEGIN SELECT RAISE(ABORT, 'guarded: a record of kind retirement needs its row in retirement'); END"
    )


def _postgresql_triggers() -> None:
    op.execute(
        "CREATE TRIGGER retirement_append_only BEFORE UPDATE OR DELETE ON retirement "
        "FOR EACH ROW EXECUTE FUNCTION auditsvc_append_only()"
    )
    op.execute(
        "CREATE TRIGGER retirement_no_truncate BEFORE TRUNCATE ON retirement "
        "FOR EACH STATEMENT EXECUTE FUNCTION auditsvc_append_only()"
    )
    op.execute(
        "CREATE FUNCTION auditsvc_guard_retirement() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.kind = 'retirement' AND NOT EXISTS (SELECT 1 FROM retirement WHERE digest = NEW.digest) THEN "
        "RAISE EXCEPTION 'guarded: a record of kind retirement needs its row in retirement' "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER record_guards_retirement BEFORE INSERT ON record "
        "FOR EACH ROW EXECUTE FUNCTION auditsvc_guard_retirement()"
    )
