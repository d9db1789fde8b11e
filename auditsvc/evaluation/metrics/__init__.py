"""Metrics of tasks and of groups, each against its published definition."""
