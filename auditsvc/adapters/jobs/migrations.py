"""The revisions of the jobs' tables, oldest first.  A released revision is never edited; DBOS migrates its own tables.

Version 0.1.0 created its tables without revisions, so a database of that version has them but no revision: those that
exist are kept with their rows, those that are missing are created.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

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


def _tables_of_0_1_0() -> None:
    """Create the tables that do not exist yet."""
    _tables.create_all(op.get_bind())


_RENAMED = {
    ("auditsvc_worker", "job_worker"): {"executor": "executor_id", "beat": "heartbeat", "reaper": "recovered_by"},
    ("auditsvc_job_event", "job_event"): {"words": "message"},
    ("auditsvc_job_death", "job_crash"): {},
}
"""By old and new name of a table: old and new names of its columns."""


def _standard_names() -> None:
    """Rename, then translate what was stored under an old name; all rows are kept."""
    for (old, new), columns in _RENAMED.items():
        op.rename_table(old, new)
        for before, after in columns.items():
            op.execute(f"ALTER TABLE {new} RENAME COLUMN {before} TO {after}")
    op.execute("UPDATE job_event SET step = 'dead letter' WHERE step = 'given up'")


REVISIONS = {"0001": _tables_of_0_1_0, "0002": _standard_names}
