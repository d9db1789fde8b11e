"""A report as data: sections, summary, words."""
