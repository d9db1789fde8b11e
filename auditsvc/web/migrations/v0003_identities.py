"""Tokens name who issued them, and people of an OIDC issuer keep the name of their first login.

Tokens that were issued before have no issuer.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision: str | None = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("token", sa.Column("issuer", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "identity",
        sa.Column("issuer", sa.String(512), primary_key=True),
        sa.Column("subject", sa.String(512), primary_key=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("key", sa.String(128), nullable=False, unique=True),
    )
