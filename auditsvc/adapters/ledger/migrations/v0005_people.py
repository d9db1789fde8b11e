"""One name for each person, and a rollback by two people: both are constraints.

``person`` has every name in the ledger under the key by which names are compared (``records.person_key``), so a second
spelling of a known name is refused.  A rollback that was recorded before has no row and stays as it is.

Revision ID: 0005
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from auditsvc.records import person_key

revision = "0005"
down_revision = "0004"
branch_labels: str | None = None
depends_on: str | None = None

_FIELDS = ("submitter", "approver", "person", "proposed_by", "requested_by", "confirmed_by", "by", "reviewer")


def upgrade() -> None:
    """Create the tables and their triggers, and enter the names that the ledger has."""
    person = op.create_table(
        "person", sa.Column("key", sa.String(128), primary_key=True), sa.Column("name", sa.String(128), nullable=False)
    )
    op.create_table(
        "release_rollback",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("requested_by", sa.String(128), nullable=False),
        sa.Column("confirmed_by", sa.String(128), nullable=False),
        sa.CheckConstraint("lower(requested_by) <> lower(confirmed_by)", name="two_people_roll_back"),
    )
    found = _names()
    if found:
        op.bulk_insert(person, [{"key": key, "name": name} for key, name in found.items()])
    for table, key in (("person", "key"), ("release_rollback", "digest")):
        if op.get_bind().dialect.name == "sqlite":
            _append_only_sqlite(table, key)
        else:
            _append_only_postgresql(table)


def _names() -> dict[str, str]:
    """The names in all records, by their keys, in the order of the log: the first spelling counts."""
    found: dict[str, str] = {}
    query = sa.text("SELECT body FROM record WHERE kind <> 'evidence' ORDER BY position")
    for (body,) in op.get_bind().execute(query):
        fields = json.loads(body if isinstance(body, str) else bytes(body))
        for name in (fields.get(field) for field in _FIELDS):
            if isinstance(name, str) and name:
                found.setdefault(person_key(name), name)
    return found


def _append_only_sqlite(table: str, key: str) -> None:
    for verb in ("update", "delete"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'append_only: {table} takes no {verb}'); END"
        )
    op.execute(
        f"CREATE TRIGGER {table}_once_no_replace BEFORE INSERT ON {table} "  # noqa: S608 - names from above
        f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) "
        f"BEGIN SELECT RAISE(ABORT, '{table}_once: this {table} is there already'); END"
    )
    if table == "release_rollback":
        op.execute(
            "CREATE TRIGGER record_guards_rollback BEFORE INSERT ON record "
            "WHEN NEW.kind = 'rollback' AND NOT EXISTS (SELECT 1 FROM release_rollback WHERE digest = NEW.digest) "
            "BEGIN SELECT RAISE(ABORT, 'guarded: a record of kind rollback needs its row in release_rollback'); END"
        )


def _append_only_postgresql(table: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} "
        "FOR EACH ROW EXECUTE FUNCTION auditsvc_append_only()"
    )
    op.execute(
        f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION auditsvc_append_only()"
    )
    if table == "release_rollback":
        op.execute(
            "CREATE FUNCTION auditsvc_guard_rollback() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF NEW.kind = 'rollback' AND NOT EXISTS (SELECT 1 FROM release_rollback WHERE digest = NEW.digest) THEN "
            "RAISE EXCEPTION 'guarded: a record of kind rollback needs its row in release_rollback' "
            "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
        )
        op.execute(
            "CREATE TRIGGER record_guards_rollback BEFORE INSERT ON record "
            "FOR EACH ROW EXECUTE FUNCTION auditsvc_guard_rollback()"
        )
