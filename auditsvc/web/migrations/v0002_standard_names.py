"""Tables, columns, delivery states and event types get their standard names; all rows are kept.

Revision ID: 0002
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from auditsvc.records.log_event import EVENT_TYPES_0_1_0

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

_REQUEST = {"person": "requested_by", "at": "requested_at"}
_RENAMED = {
    ("answered", "idempotency_key"): {
        "person": "caller",
        "request": "request_hash",
        "at": "created_at",
        "kind": "content_type",
    },
    ("recall", "revocation_request"): _REQUEST,
    ("way_back", "rollback_request"): _REQUEST,
    ("hook", "webhook"): {"person": "created_by", "at": "created_at", "ended": "disabled_at"},
    ("told", "webhook_cursor"): {"size": "log_size"},
    ("delivery", "webhook_delivery"): {
        "hook": "webhook",
        "tries": "attempts",
        "due": "next_attempt_at",
        "at": "created_at",
        "trouble": "last_error",
    },
    ("placed", "registry_snapshot"): {"names": "models"},
}
"""By old and new name of a table: old and new names of its columns."""

_STATES = {"waiting": "pending", "dead": "failed"}


def upgrade() -> None:
    """Rename, then translate what was stored under old names."""
    for (old, new), columns in _RENAMED.items():
        op.rename_table(old, new)
        for before, after in columns.items():
            op.execute(f"ALTER TABLE {new} RENAME COLUMN {before} TO {after}")
    for before, after in _STATES.items():
        op.execute(f"UPDATE webhook_delivery SET state = '{after}' WHERE state = '{before}'")  # noqa: S608 - names from above
    connection = op.get_bind()
    for row in connection.execute(sa.text("SELECT id, events FROM webhook")).all():
        events = json.dumps([EVENT_TYPES_0_1_0.get(name, name) for name in json.loads(row.events)])
        connection.execute(
            sa.text("UPDATE webhook SET events = :events WHERE id = :id"), {"events": events, "id": row.id}
        )
