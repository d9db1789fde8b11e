"""Signing, attesting and logging a release."""
