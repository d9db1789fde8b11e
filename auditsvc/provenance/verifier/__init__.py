"""Verification of a release, offline."""
