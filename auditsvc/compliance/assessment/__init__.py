"""Frameworks and the status of their requirements."""
