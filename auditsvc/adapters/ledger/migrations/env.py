"""Run by Alembic: takes the connection and the open transaction that ``opening`` hands over."""

from __future__ import annotations

from alembic import context

from auditsvc.adapters.ledger.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], version_table=VERSION_TABLE, transactional_ddl=True
)
context.run_migrations()
