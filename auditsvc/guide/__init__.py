"""The manual, in Markdown; the service shows it at ``/guide``."""
