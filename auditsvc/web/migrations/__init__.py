"""Alembic revisions of the service's own tables, one file each.  A released revision is never edited."""
