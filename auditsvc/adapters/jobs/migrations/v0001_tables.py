"""The jobs' tables as auditsvc 0.1.0 created them.

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

sa.Table(
    "auditsvc_worker",
    _tables,
    sa.Column("executor", sa.String(200), primary_key=True),
    sa.Column("beat", sa.Float, nullable=False),
    sa.Column("reaper", sa.String(200), nullable=False),
)
sa.Table(
    "auditsvc_job_event",
    _tables,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("step", sa.String(200), nullable=False),
    sa.Column("done", sa.Integer),
    sa.Column("total", sa.Integer),
    sa.Column("words", sa.Text, nullable=False),
)
sa.Table(
    "auditsvc_job_death",
    _tables,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
)


def upgrade() -> None:
    """Create the tables that do not exist yet."""
    _tables.create_all(op.get_bind())
