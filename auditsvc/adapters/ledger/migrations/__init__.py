"""The ledger's Alembic revisions, one file each.  A released revision is never edited."""
