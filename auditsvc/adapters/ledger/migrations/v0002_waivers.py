"""Who submitted a candidate can't waive its rules: a constraint, as for approvals.

A waiver that was recorded before has no row here and stays as it is; every new one needs its row.

Revision ID: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from auditsvc.adapters.ledger.migrations import append_only, guard

revision = "0002"
down_revision = "0001"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    """Create the table and its triggers."""
    op.create_table(
        "waiver",
        sa.Column("digest", sa.String(71), primary_key=True),
        sa.Column("candidate", sa.String(71), nullable=False),
        sa.Column("submitter", sa.String(128), nullable=False),
        sa.Column("person", sa.String(128), nullable=False),
        sa.ForeignKeyConstraint(["candidate", "submitter"], ["submission.candidate", "submission.submitter"]),
        sa.CheckConstraint("lower(person) <> lower(submitter)", name="two_people_waive"),
    )
    append_only("waiver", {"waiver_once": "digest = NEW.digest"})
    guard("waiver", "waiver")
