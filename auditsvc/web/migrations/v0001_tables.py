"""The service's tables as auditsvc 0.1.0 created them.

Version 0.1.0 created them without Alembic, so a database of that version has them but no revision: those that exist
are kept with their rows, those that are missing are created.

Revision ID: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None
branch_labels: str | None = None
depends_on: str | None = None

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


def upgrade() -> None:
    """Create the tables that do not exist yet."""
    _tables.create_all(op.get_bind())
