"""The terms of a model are set by two people: one proposes them, another confirms them.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from auditsvc.adapters.ledger.migrations import append_only, guard

revision = "0004"
down_revision = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table and its triggers."""
    op.create_table(
        "terms",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("proposed_by", sa.String(128), nullable=False),
        sa.Column("confirmed_by", sa.String(128), nullable=False),
        sa.CheckConstraint("lower(proposed_by) <> lower(confirmed_by)", name="two_people_set_terms"),
    )
    append_only("terms", {"terms_once": "digest = NEW.digest"}, "these terms are")
    guard("terms", "terms")
