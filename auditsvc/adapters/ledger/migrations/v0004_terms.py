"""The terms of a model are set by two people: one proposes them, another confirms them.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table and its triggers."""
    op.create_table(
        "terms",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("proposed_by", sa.String(128), nullable=False),
        sa.Column("confirmed_by", sa.String(128), nullable=False),
        sa.CheckConstraint("lower(proposed_by) <> lower(confirmed_by)", name="two_people_set_terms"),
    )
    if op.get_bind().dialect.name == "sqlite":
        _sqlite_triggers()
    else:
        _postgresql_triggers()


def _sqlite_triggers() -> None:
    for verb in ("update", "delete"):
        op.execute(
            f"CREATE TRIGGER terms_no_{verb} BEFORE {verb} ON terms "
            f"BEGIN SELECT RAISE(ABORT, 'append_only: terms takes no {verb}'); END"
        )
    op.execute(
        "CREATE TRIGGER terms_once_no_replace BEFORE INSERT ON terms "
        "WHEN EXISTS (SELECT 1 FROM terms WHERE digest = NEW.digest) "
        "BEGIN SELECT RAISE(ABORT, 'terms_once: these terms are there already'); END"
    )
    op.execute(
        "CREATE TRIGGER record_guards_terms BEFORE INSERT ON record "
        "WHEN NEW.kind = 'terms' AND NOT EXISTS (SELECT 1 FROM terms WHERE digest = NEW.digest) "
        "BEGIN SELECT RAISE(ABORT, 'guarded: a record of kind terms needs its row in terms'); END"
    )


def _postgresql_triggers() -> None:
    op.execute(
        "CREATE TRIGGER terms_append_only BEFORE UPDATE OR DELETE ON terms "
        "FOR EACH ROW EXECUTE FUNCTION auditsvc_append_only()"
    )
    op.execute(
        "CREATE TRIGGER terms_no_truncate BEFORE TRUNCATE ON terms "
        "FOR EACH STATEMENT EXECUTE FUNCTION auditsvc_append_only()"
    )
    op.execute(
        "CREATE FUNCTION auditsvc_guard_terms() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.kind = 'terms' AND NOT EXISTS (SELECT 1 FROM terms WHERE digest = NEW.digest) THEN "
        "RAISE EXCEPTION 'guarded: a record of kind terms needs its row in terms' "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER record_guards_terms BEFORE INSERT ON record "
        "FOR EACH ROW EXECUTE FUNCTION auditsvc_guard_terms()"
    )
