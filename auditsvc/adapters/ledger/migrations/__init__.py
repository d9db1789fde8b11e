"""The ledger's Alembic revisions, one file each.  A released revision is never edited.

What every revision needs is here: a table that takes no change, and a kind of record that needs its row in a table.  An
``UPDATE`` or ``DELETE`` is refused by the database.  SQLite's ``INSERT OR REPLACE`` deletes without asking the delete
trigger, so there a row whose key is taken is refused before it is inserted.
"""

from __future__ import annotations

from collections.abc import Mapping

from alembic import op


def is_sqlite() -> bool:
    """Whether the database that is upgraded is SQLite."""
    return bool(op.get_bind().dialect.name == "sqlite")


def append_only(table: str, keys: Mapping[str, str], taken: str = "") -> None:
    """Refuse every change of the rows of a table.

    Args:
        table: The table.
        keys: A name and a condition for each of its unique keys.
        taken: Says that a row is there, by default ``this <table> is``.
    """
    if not is_sqlite():
        refusal = "EXECUTE FUNCTION auditsvc_append_only()"
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW {refusal}",
        )
        op.execute(f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {refusal}")
        return
    for verb in ("update", "delete"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, 'append_only: {table} takes no {verb}'); END"
        )
    for name, same in keys.items():
        op.execute(
            f"CREATE TRIGGER {name}_no_replace BEFORE INSERT ON {table} "  # noqa: S608 - names of the revisions
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) "
            f"BEGIN SELECT RAISE(ABORT, '{name}: {taken or f'this {table} is'} there already'); END"
        )


def guard(kind: str, table: str) -> None:
    """Refuse a record of this kind that has no row of the same digest in the table."""
    lacking = f"NEW.kind = '{kind}' AND NOT EXISTS (SELECT 1 FROM {table} WHERE digest = NEW.digest)"  # noqa: S608
    words = f"guarded: a record of kind {kind} needs its row in {table}"
    if is_sqlite():
        op.execute(
            f"CREATE TRIGGER record_guards_{kind} BEFORE INSERT ON record "
            f"WHEN {lacking} BEGIN SELECT RAISE(ABORT, '{words}'); END"
        )
        return
    op.execute(
        f"CREATE FUNCTION auditsvc_guard_{kind}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {lacking} THEN RAISE EXCEPTION '{words}' "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        f"CREATE TRIGGER record_guards_{kind} BEFORE INSERT ON record "
        f"FOR EACH ROW EXECUTE FUNCTION auditsvc_guard_{kind}()"
    )
