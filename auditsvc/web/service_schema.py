"""The tables of what the service itself must remember: tokens, repeated writes, what waits for a second person,
receivers and what they are told, where the registry's names were.

They lie beside the ledger where that is PostgreSQL, so that any number of service processes share them; else in
``access.db``, a SQLite file of the store.
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

_Moment = String(40)

token = Table(
    "token",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("hash", LargeBinary, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("issued", _Moment, nullable=False),
    Column("expires", _Moment, nullable=False),
    Column("revoked", _Moment),
    Column("project", Text, nullable=False),
)

idempotency_key = Table(
    "answered",
    metadata,
    Column("person", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request", LargeBinary, nullable=False),
    Column("at", _Moment, nullable=False),
    Column("status", Integer),
    Column("kind", Text),
    Column("body", LargeBinary),
)
"""``status`` is empty while the first request with this key is still being answered."""


def _waiting(name: str) -> Table:
    return Table(
        name,
        metadata,
        Column("release", String(71), primary_key=True),
        Column("reason", Text, nullable=False),
        Column("person", Text, nullable=False),
        Column("at", _Moment, nullable=False),
    )


revocation_request, way_back = _waiting("recall"), _waiting("way_back")
"""What one person asked for and another has not confirmed yet."""

hook = Table(
    "hook",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("person", Text, nullable=False),
    Column("at", _Moment, nullable=False),
    Column("ended", _Moment),
)

webhook_cursor = Table(
    "told", metadata, Column("project", Text, primary_key=True), Column("size", Integer, nullable=False)
)
"""How many entries of the log were turned into deliveries."""

delivery = Table(
    "delivery",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("hook", String(40), nullable=False),
    Column("type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", String(10), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("due", _Moment, nullable=False),
    Column("at", _Moment, nullable=False),
    Column("trouble", Text, nullable=False),
)

placed = Table("placed", metadata, Column("project", Text, primary_key=True), Column("names", Text, nullable=False))
"""Where the registry's aliases and stages were at the last look, as JSON."""
