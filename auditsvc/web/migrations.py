"""The revisions of the service's own tables, oldest first.  A released revision is never edited.

Version 0.1.0 created its tables without revisions, so a database of that version has them but no revision: those that
exist are kept with their rows, those that are missing are created.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from auditsvc.records.base import EVENT_TYPES_0_1_0

_tables = sa.MetaData()


def _column(name: str, kind: type[sa.types.TypeEngine[str]] | sa.types.TypeEngine[str] = sa.Text) -> sa.Column[str]:
    return sa.Column(name, kind, nullable=False)


_MOMENT = sa.String(40)

sa.Table(
    "token",
    _tables,
    sa.Column("id", sa.String(40), primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False, unique=True),
    _column("name"),
    _column("role"),
    _column("issued", _MOMENT),
    _column("expires", _MOMENT),
    sa.Column("revoked", _MOMENT),
    _column("project"),
)
sa.Table(
    "answered",
    _tables,
    sa.Column("person", sa.Text, primary_key=True),
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("request", sa.LargeBinary, nullable=False),
    _column("at", _MOMENT),
    sa.Column("status", sa.Integer),
    sa.Column("kind", sa.Text),
    sa.Column("body", sa.LargeBinary),
)
for _name in ("recall", "way_back"):
    sa.Table(
        _name,
        _tables,
        sa.Column("release", sa.String(71), primary_key=True),
        _column("reason"),
        _column("person"),
        _column("at", _MOMENT),
    )
sa.Table(
    "hook",
    _tables,
    sa.Column("id", sa.String(40), primary_key=True),
    _column("project"),
    _column("url"),
    _column("secret"),
    _column("events"),
    _column("person"),
    _column("at", _MOMENT),
    sa.Column("ended", _MOMENT),
)
sa.Table(
    "told", _tables, sa.Column("project", sa.Text, primary_key=True), sa.Column("size", sa.Integer, nullable=False)
)
sa.Table(
    "delivery",
    _tables,
    sa.Column("id", sa.String(100), primary_key=True),
    _column("hook", sa.String(40)),
    _column("type"),
    sa.Column("body", sa.LargeBinary, nullable=False),
    _column("state", sa.String(10)),
    sa.Column("tries", sa.Integer, nullable=False),
    _column("due", _MOMENT),
    _column("at", _MOMENT),
    _column("trouble"),
)
sa.Table("placed", _tables, sa.Column("project", sa.Text, primary_key=True), _column("names"))


def _tables_of_0_1_0() -> None:
    """Create the tables that do not exist yet."""
    _tables.create_all(op.get_bind())


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


def _standard_names() -> None:
    """Rename, then translate what was stored under old names; all rows are kept."""
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


def _identities() -> None:
    """Tokens name who issued them, older ones no one; people of an OIDC issuer keep the name of their first login."""
    op.add_column("token", sa.Column("issuer", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "identity",
        sa.Column("issuer", sa.String(512), primary_key=True),
        sa.Column("subject", sa.String(512), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("key", sa.String(128), nullable=False, unique=True),
    )


def _sessions() -> None:
    """Sessions of browsers, and the headers of answers that are given again.

    Answers that were kept before are deleted: some of them hold a token or the secret of a webhook.
    """
    op.create_table(
        "session",
        sa.Column("hash", sa.LargeBinary, primary_key=True),
        sa.Column("token", sa.String(40), nullable=False),
        sa.Column("opened_at", sa.String(40), nullable=False),
        sa.Column("renewed_at", sa.String(40), nullable=False),
        sa.Column("replaces", sa.LargeBinary),
    )
    op.execute("DELETE FROM idempotency_key")
    op.add_column("idempotency_key", sa.Column("headers", sa.Text))


def _no_requests() -> None:
    """Requests that wait for a second person are records of the ledger; what these tables held was no longer read."""
    for name in ("revocation_request", "rollback_request"):
        op.drop_table(name)


REVISIONS = {
    "0001": _tables_of_0_1_0,
    "0002": _standard_names,
    "0003": _identities,
    "0004": _sessions,
    "0005": _no_requests,
}
