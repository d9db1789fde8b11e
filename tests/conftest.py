"""One torch thread for the tests: small networks gain nothing from two, and their training repeats exactly."""

import gc
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # dozens of processes are started: they share the byte code

from hypothesis import settings

settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")
sys.dont_write_bytecode = False

LONGEST = (
    "demo/test_demo",
    "web/test_schemathesis",
    "adapters/test_jobs_kills",
    "adapters/test_on_ray",
    "services/test_blocked",
    "test_plugins",
    "pruning/test_families",
    "adapters/test_mlflow_registry",
)
"""Files that take longest start first, so that no worker is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((n for n, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


def pytest_collection_finish() -> None:
    """The collector leaves the modules alone, which are most of the objects: a tenth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


@pytest.fixture(autouse=True, scope="session")
def mlflow_store_made_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow's own migrations take seconds for each new store: the second and later ones are copies of the first."""
    from auditsvc.adapters import mlflow_registry

    build, first = mlflow_registry._build, tmp_path_factory.mktemp("mlflow") / "mlflow.db"

    def copied(store: Path) -> None:
        if not first.exists():
            build(first)
        partial = store.with_name(f"{store.name}-{os.getpid()}.partial")
        partial.write_bytes(first.read_bytes())
        with closing(sqlite3.connect(partial)) as connection, connection:
            connection.execute("UPDATE experiments SET artifact_location = ?", (f"{store.parent}/0",))
        partial.rename(store)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_registry, "_build", copied)
        yield


@pytest.fixture(autouse=True, scope="session")
def databases_made_once() -> Iterator[None]:
    """A new SQLite file is a copy of the first of its schema, which the migrations made; its revision is still read."""
    from auditsvc.adapters.sql import Database

    migrate, first = Database._migrate, dict[str, bytes]()

    def copied(database: Database) -> None:
        file, name = database.file, f"{database.schema.version_table} {database.schema.head}"
        if file is None or (file.exists() and file.stat().st_size):
            return migrate(database)
        if name in first:
            with suppress(OSError):  # a folder that may not be written is the migrations' to name
                file.write_bytes(first[name])
            return migrate(database)
        migrate(database)
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        first[name] = file.read_bytes()
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_migrate", copied)
        yield
