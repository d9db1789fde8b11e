"""Tokens, OpenID Connect, login."""
