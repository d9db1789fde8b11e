"""The tables of the service: tokens, sessions, idempotency keys, webhooks with their deliveries, and the last known
state of the model registry.

They are in the ledger's database where that is PostgreSQL, so that any number of service processes share them; with
SQLite they are in ``access.db`` in the store.
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, LargeBinary, MetaData, String, Table, Text

from auditsvc.adapters.sql import Schema

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
    Column("issuer", Text, nullable=False, server_default=""),
)

identity = Table(
    "identity",
    metadata,
    Column("issuer", String(512), primary_key=True),
    Column("subject", String(512), primary_key=True),
    Column("name", String(128), nullable=False),
    Column("key", String(128), nullable=False, unique=True),
)
"""The people of an OIDC issuer: each has the name of the first login, and each name one person."""

idempotency_key = Table(
    "idempotency_key",
    metadata,
    Column("caller", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("request_hash", LargeBinary, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("status", Integer),
    Column("content_type", Text),
    Column("body", LargeBinary),
    Column("headers", Text),
)
"""``status`` is null while the first request with this key is in progress; ``headers`` is a JSON object."""

session = Table(
    "session",
    metadata,
    Column("hash", LargeBinary, primary_key=True),
    Column("token", String(40), nullable=False),
    Column("opened_at", _Moment, nullable=False),
    Column("renewed_at", _Moment, nullable=False),
    Column("replaces", LargeBinary),
)
"""Sessions of browsers; ``replaces`` is the former secret, which ends when this one is first used."""


webhook = Table(
    "webhook",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("disabled_at", _Moment),
)
"""``events`` is a JSON list of event types; the empty list means all."""

webhook_cursor = Table(
    "webhook_cursor",
    metadata,
    Column("project", Text, primary_key=True),
    Column("log_size", Integer, nullable=False),
)
"""How many entries of the log have been turned into deliveries."""

webhook_delivery = Table(
    "webhook_delivery",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("webhook", String(40), nullable=False),
    Column("type", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_attempt_at", _Moment, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("last_error", Text, nullable=False),
)

registry_snapshot = Table(
    "registry_snapshot",
    metadata,
    Column("project", Text, primary_key=True),
    Column("models", Text, nullable=False),
)
"""Aliases and stages of each model when the registry was last read, as JSON."""

SCHEMA = Schema(
    tables=metadata,
    head="0005",
    version_table="auditsvc_service_revision",
    migrations="auditsvc.web.migrations",
)
