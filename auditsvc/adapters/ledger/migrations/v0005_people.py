"""One name for each person, and a rollback by two people: both are constraints.

``person`` has every name in the ledger under the key by which names are compared (``records.person_key``), so a second
spelling of a known name is refused.  A rollback that was recorded before has no row and stays as it is.

Revision ID: 0005
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from auditsvc.adapters.ledger.migrations import append_only, guard
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
    append_only("person", {"person_once": "key = NEW.key"})
    append_only("release_rollback", {"release_rollback_once": "digest = NEW.digest"})
    guard("rollback", "release_rollback")


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
