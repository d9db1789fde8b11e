"""The revisions of the ledger's tables, oldest first.  A released revision is never edited.

Tables take no change, and some kinds of record need their row in a table.  An ``UPDATE`` or ``DELETE`` is refused
by the database.  SQLite's ``INSERT OR REPLACE`` deletes without asking the delete trigger, so there a row whose key is
taken is refused before it is inserted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

from auditsvc.records import person_key


def _is_sqlite() -> bool:
    """Whether the database that is upgraded is SQLite."""
    return bool(op.get_bind().dialect.name == "sqlite")


def _append_only(table: str, keys: Mapping[str, str], taken: str = "") -> None:
    """Refuse every change of the rows of a table.

    Args:
        table: The table.
        keys: A name and a condition for each of its unique keys.
        taken: Says that a row is there, by default ``this <table> is``.
    """
    if not _is_sqlite():
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


def _guard(kind: str, table: str) -> None:
    """Refuse a record of this kind that has no row of the same digest in the table."""
    lacking = f"NEW.kind = '{kind}' AND NOT EXISTS (SELECT 1 FROM {table} WHERE digest = NEW.digest)"  # noqa: S608
    words = f"guarded: a record of kind {kind} needs its row in {table}"
    if _is_sqlite():
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


def _first() -> None:
    """The first tables, and the triggers that make them append-only."""
    _records()
    _people()
    _log()
    if not _is_sqlite():
        op.execute(
            "CREATE FUNCTION auditsvc_append_only() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE EXCEPTION 'append_only: % takes no %', TG_TABLE_NAME, lower(TG_OP) "
            "USING ERRCODE = 'integrity_constraint_violation'; END $$"
        )
    for table, keys in _KEYS.items():
        _append_only(table, keys)
    for kind in _GUARDED:
        _guard(kind, kind)


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


def _create_two_people(table: str, constraint: str, first: str) -> None:
    """A table of what one person begins and another confirms."""
    op.create_table(
        table,
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column(first, sa.String(128), nullable=False),
        sa.Column("confirmed_by", sa.String(128), nullable=False),
        sa.CheckConstraint(f"lower({first}) <> lower(confirmed_by)", name=constraint),
    )


def _waivers() -> None:
    """Who submitted a candidate can't waive its rules; a waiver from before has no row and stays as it is."""
    op.create_table(
        "waiver",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("candidate", sa.String(71), nullable=False),
        sa.Column("submitter", sa.String(128), nullable=False),
        sa.Column("person", sa.String(128), nullable=False),
        sa.ForeignKeyConstraint(["candidate", "submitter"], ["submission.candidate", "submission.submitter"]),
        sa.CheckConstraint("lower(person) <> lower(submitter)", name="two_people_waive"),
    )
    _append_only("waiver", {"waiver_once": "digest = NEW.digest"})
    _guard("waiver", "waiver")


def _retirements() -> None:
    """A signing key changes by two people; a retirement from before has no row and stays as it is."""
    _create_two_people("retirement", "two_people_retire", "requested_by")
    _append_only("retirement", {"retirement_once": "digest = NEW.digest"})
    _guard("retirement", "retirement")


def _terms() -> None:
    """The terms of a model are set by two people: one proposes them, another confirms them."""
    _create_two_people("terms", "two_people_set_terms", "proposed_by")
    _append_only("terms", {"terms_once": "digest = NEW.digest"}, "these terms are")
    _guard("terms", "terms")


_FIELDS = ("submitter", "approver", "person", "proposed_by", "requested_by", "confirmed_by", "by", "reviewer")


def _names_and_rollbacks() -> None:
    """One name for each person, and a rollback by two people; a rollback from before has no row and stays as it is.

    ``person`` has every name in the ledger under the key by which names are compared (``records.person_key``), so a
    second spelling of a known name is refused.
    """
    person = op.create_table(
        "person", sa.Column("key", sa.String(128), primary_key=True), sa.Column("name", sa.String(128), nullable=False)
    )
    _create_two_people("release_rollback", "two_people_roll_back", "requested_by")
    found = _names()
    if found:
        op.bulk_insert(person, [{"key": key, "name": name} for key, name in found.items()])
    _append_only("person", {"person_once": "key = NEW.key"})
    _append_only("release_rollback", {"release_rollback_once": "digest = NEW.digest"})
    _guard("rollback", "release_rollback")


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


_WORDS = "superseded: a newer decision answers the same question"


def _newest_decision() -> None:
    """An approval or a release of a decision that a newer one supersedes is refused by the database.

    A newer decision supersedes one with the same candidate, policy, terms and data.  What is in the ledger stays.
    """
    if _is_sqlite():
        op.execute(
            "CREATE TRIGGER record_is_of_newest BEFORE INSERT ON record WHEN NEW.kind IN ('approval', 'release') "
            f"AND {_superseded()} BEGIN SELECT RAISE(ABORT, '{_WORDS}'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION auditsvc_of_newest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF {_superseded()} THEN RAISE EXCEPTION '{_WORDS}' "
        "USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN NEW; END $$"
    )
    op.execute(
        "CREATE TRIGGER record_is_of_newest BEFORE INSERT ON record FOR EACH ROW "
        "WHEN (NEW.kind IN ('approval', 'release')) EXECUTE FUNCTION auditsvc_of_newest()"
    )


def _superseded() -> str:
    """Whether the ledger has a newer decision on the question of the decision that the new record names."""
    return (
        "EXISTS (SELECT 1 FROM record one JOIN subject named ON named.kind = 'decision' "  # noqa: S608 - no input
        f"AND named.subject = {_field('one', 'candidate')} || '|' || {_field('one', 'policy')} "
        "AND named.position > one.position JOIN record other ON other.digest = named.digest "
        f"WHERE one.kind = 'decision' AND one.digest = {_field('NEW', 'decision')} "
        f"AND coalesce({_field('other', 'terms')}, '') = coalesce({_field('one', 'terms')}, '') "
        f"AND {_data('other')} = {_data('one')})"
    )


def _field(row: str, name: str) -> str:
    if _is_sqlite():
        return f"json_extract(CAST({row}.body AS TEXT), '$.{name}')"
    return f"(convert_from({row}.body, 'UTF8')::jsonb ->> '{name}')"


def _data(row: str) -> str:
    """The digests of a decision's data sets, in order."""
    if _is_sqlite():
        return (
            "(SELECT json_group_array(json_extract(value, '$.digest')) "  # noqa: S608 - names of this module
            f"FROM json_each(CAST({row}.body AS TEXT), '$.data') WHERE type = 'object')"
        )
    return f"jsonb_path_query_array(convert_from({row}.body, 'UTF8')::jsonb, '$.data[*].digest')"


def _watch() -> None:
    """How a release is watched is set by two people, as terms are."""
    _create_two_people("watch", "two_people_set_watch", "proposed_by")
    _append_only("watch", {"watch_once": "digest = NEW.digest"}, "these settings are")
    _guard("watch", "watch")


REVISIONS = {
    "0001": _first,
    "0002": _waivers,
    "0003": _retirements,
    "0004": _terms,
    "0005": _names_and_rollbacks,
    "0006": _newest_decision,
    "0007": _watch,
}
