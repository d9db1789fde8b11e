"""Sessions of browsers, and the headers of answers that are given again.

Answers that were kept before are deleted: some of them hold a token or the secret of a webhook.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Add the table and the column."""
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
