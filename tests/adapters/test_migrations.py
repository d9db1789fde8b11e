"""Every schema: its migrations create its tables, old databases are upgraded, newer ones are refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from importlib import import_module
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect, text

from auditsvc.adapters import sql
from auditsvc.adapters.jobs.job_store import SCHEMA as JOBS
from auditsvc.adapters.ledger.schema import SCHEMA as LEDGER
from auditsvc.adapters.ledger.schema import leaf_once
from auditsvc.adapters.sql import Database, Schema, upgrade
from auditsvc.errors import Unavailable
from auditsvc.web.service_schema import SCHEMA as SERVICE
from tests.adapters.postgres import new_database

leaf_once()  # completes the declared tables
_MIGRATE = Database._migrate
SCHEMAS = pytest.mark.parametrize("schema", [LEDGER, SERVICE, JOBS], ids=["ledger", "service", "jobs"])


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/new.db"


@pytest.fixture(autouse=True)
def migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests run the migrations for each new database; others get copies of a first one."""
    monkeypatch.setattr(Database, "_migrate", _MIGRATE)


def _revision(database: Database) -> str | None:
    with database.read_tx() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": database.schema.version_table})
        return context.get_current_revision()


@SCHEMAS
def test_the_migrations_create_the_tables_of_the_schema(schema: Schema, url: str) -> None:
    database = Database(url, schema)
    with database.read_tx() as connection, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLite can't reflect the index over lower(approver); a contract tests it
        options = {"version_table": schema.version_table, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.tables) == []
    assert _revision(database) == list(import_module(schema.migrations).REVISIONS)[-1] == schema.head
    database.close()


def test_all_schemas_share_one_database(url: str) -> None:
    opened = [Database(url, schema) for schema in (LEDGER, SERVICE, JOBS)]
    assert [_revision(database) for database in opened] == [LEDGER.head, SERVICE.head, JOBS.head]
    for database in opened:
        database.close()


@SCHEMAS
def test_a_newer_database_is_refused_and_left_alone(schema: Schema, tmp_path: Path) -> None:
    path = tmp_path / "newer.db"
    Database(f"sqlite:///{path}", schema).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"UPDATE {schema.version_table} SET version_num = '9999'")
    before = path.read_bytes()
    with pytest.raises(Unavailable, match=r"newer auditsvc.*9999.*install the newer version"):
        Database(f"sqlite:///{path}", schema)
    assert path.read_bytes() == before


@SCHEMAS
def test_an_interrupted_upgrade_leaves_nothing_and_is_repeated(
    schema: Schema, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        upgrade(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sql, "upgrade", interrupted)
        Database(url, schema)
    other = Database(url, Schema(schema.tables, schema.head, "other_revision", schema.migrations))
    assert schema.version_table not in inspect(other.engine).get_table_names()
    other.close()


@SCHEMAS
def test_four_processes_upgrade_a_database_once(schema: Schema, url: str) -> None:
    module = {
        LEDGER.version_table: "adapters.ledger.schema",
        SERVICE.version_table: "web.service_schema",
        JOBS.version_table: "adapters.jobs.job_store",
    }[schema.version_table]
    script = f"""
import os
from auditsvc.{module} import SCHEMA
from auditsvc.adapters.sql import Database
children = []
for _ in range(3):
    children.append(os.fork())
    if not children[-1]:
        Database({url!r}, SCHEMA).close()
        os._exit(0)
Database({url!r}, SCHEMA).close()
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 3
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0
    database = Database(url, schema)
    with database.read_tx() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {schema.version_table}")).all() == [(schema.head,)]
    database.close()


def _as_version_0_1_0(url: str, schema: Schema) -> Database:
    """A database with the tables of 0.1.0 and no revision, as that version left it."""
    database = Database(url, schema)
    with database.write_tx() as connection:
        for table in (*schema.tables.tables, schema.version_table):
            connection.execute(text(f"DROP TABLE {table}"))
        upgrade(connection, schema, None, target="0001")
        connection.execute(text(f"DROP TABLE {schema.version_table}"))
    return database


def test_the_service_tables_of_0_1_0_are_adopted_with_their_rows(url: str) -> None:
    old = _as_version_0_1_0(url, SERVICE)
    with old.write_tx() as connection:
        for statement in (
            "INSERT INTO hook VALUES ('w1', '', 'https://a/', 's', '[\"release\", \"came-in\"]', 'ann', 't', NULL)",
            "INSERT INTO delivery VALUES ('d1', 'w1', 'release', '', 'waiting', 2, 't', 't', 'no answer')",
            "INSERT INTO delivery VALUES ('d2', 'w1', 'release', '', 'dead', 8, 't', 't', 'no answer')",
            "INSERT INTO told VALUES ('', 12)",
            "INSERT INTO recall VALUES ('sha256:1', 'why', 'ann', 't')",
            "INSERT INTO way_back VALUES ('sha256:2', 'why', 'bob', 't')",
            "INSERT INTO placed VALUES ('', '{}')",
        ):
            connection.execute(text(statement))
    old.close()
    new = Database(url, SERVICE)
    with new.read_tx() as connection:
        for query, rows in {
            "SELECT events, created_by FROM webhook": [('["release.created", "user.logged-in"]', "ann")],
            "SELECT id, webhook, state, attempts FROM webhook_delivery ORDER BY id": [
                ("d1", "w1", "pending", 2),
                ("d2", "w1", "failed", 8),
            ],
            "SELECT log_size FROM webhook_cursor": [(12,)],
            "SELECT models FROM registry_snapshot": [("{}",)],
        }.items():
            assert connection.execute(text(query)).all() == rows
    assert not {"revocation_request", "rollback_request"} & {*inspect(new.engine).get_table_names()}
    new.close()


def test_the_jobs_tables_of_0_1_0_are_adopted_with_their_rows(url: str) -> None:
    old = _as_version_0_1_0(url, JOBS)
    with old.write_tx() as connection:
        for statement in (
            "INSERT INTO auditsvc_worker VALUES ('cafe/1', 5.5, '')",
            "INSERT INTO auditsvc_job_event VALUES ('j', 1, 7, 'given up', NULL, NULL, 'why')",
            "INSERT INTO auditsvc_job_death VALUES ('j', 4)",
        ):
            connection.execute(text(statement))
    old.close()
    new = Database(url, JOBS)
    with new.read_tx() as connection:
        for query, rows in {
            "SELECT executor_id, heartbeat, recovered_by FROM job_worker": [("cafe/1", 5.5, "")],
            "SELECT job, step, message FROM job_event": [("j", "dead letter", "why")],
            "SELECT count FROM job_crash": [(4,)],
        }.items():
            assert connection.execute(text(query)).all() == rows
    new.close()
