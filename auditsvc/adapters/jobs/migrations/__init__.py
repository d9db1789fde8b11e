"""Alembic revisions of the jobs' tables, one file each.  A released revision is never edited.

DBOS migrates its own tables.
"""
