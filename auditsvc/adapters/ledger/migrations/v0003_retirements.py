"""A signing key changes by two people: one asks, another confirms.

A retirement that was recorded before has no row here and stays as it is; every new one needs its row.

Revision ID: 0003
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from auditsvc.adapters.ledger.migrations import append_only, guard

revision = "0003"
down_revision = "0002"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table and its triggers."""
    op.create_table(
        "retirement",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("requested_by", sa.String(128), nullable=False),
        sa.Column("confirmed_by", sa.String(128), nullable=False),
        sa.CheckConstraint("lower(requested_by) <> lower(confirmed_by)", name="two_people_retire"),
    )
    append_only("retirement", {"retirement_once": "digest = NEW.digest"})
    guard("retirement", "retirement")
