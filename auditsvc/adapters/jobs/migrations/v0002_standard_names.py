"""Tables, columns and the dead-letter step get their standard names; all rows are kept.

Revision ID: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision: str | None = "0001"
branch_labels: str | None = None
depends_on: str | None = None

_RENAMED = {
    ("auditsvc_worker", "job_worker"): {"executor": "executor_id", "beat": "heartbeat", "reaper": "recovered_by"},
    ("auditsvc_job_event", "job_event"): {"words": "message"},
    ("auditsvc_job_death", "job_crash"): {},
}
"""By old and new name of a table: old and new names of its columns."""


def upgrade() -> None:
    """Rename, then translate what was stored under an old name."""
    for (old, new), columns in _RENAMED.items():
        op.rename_table(old, new)
        for before, after in columns.items():
            op.execute(f"ALTER TABLE {new} RENAME COLUMN {before} TO {after}")
    op.execute("UPDATE job_event SET step = 'dead letter' WHERE step = 'given up'")
