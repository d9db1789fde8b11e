"""Each port twice: the fake, and the adapter."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditsvc.adapters.blobs import FileBlobs, ObjectBlobs
from auditsvc.adapters.file_keys import FileKeys
from auditsvc.adapters.ledger import SqlLedger
from auditsvc.adapters.mlflow_registry import MlflowRegistry
from auditsvc.ports import Blobs, Keys, Registry
from tests.adapters.mlflow_server import mlflow_server
from tests.adapters.object_storage import new_bucket, object_storage
from tests.adapters.postgres import new_database
from tests.fakes import FixedClock, MemoryBlobs, MemoryKeys, MemoryLedger, MemoryRegistry

Both = MemoryLedger | SqlLedger


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Both]:
    if request.param == "memory":
        yield MemoryLedger(FixedClock())
        return
    url = new_database() if request.param == "postgres" else f"sqlite:///{tmp_path}/ledger.db"
    opened = SqlLedger(url, FixedClock())
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def storage() -> Iterator[str]:
    with object_storage() as address:
        yield address


@pytest.fixture(params=["memory", "files", "objects"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Blobs:
    if request.param == "objects":
        request.getfixturevalue("storage")
        return ObjectBlobs(new_bucket())
    return MemoryBlobs() if request.param == "memory" else FileBlobs(tmp_path / "blobs")


@pytest.fixture(scope="session", params=["memory", "mlflow", pytest.param("server", marks=pytest.mark.slow)])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One for all tests, as an MLflow store takes a second to make: each test has its own model."""
    folder = tmp_path_factory.mktemp("mlflow")
    if request.param == "memory":
        yield MemoryRegistry()
    elif request.param == "mlflow":
        yield MlflowRegistry(f"sqlite:///{folder}/mlflow.db", folder / "artifacts")
    else:
        with mlflow_server(folder) as uri:
            yield MlflowRegistry(uri, folder / "artifacts")


@pytest.fixture(params=["memory", "files"])
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Keys:
    return MemoryKeys() if request.param == "memory" else FileKeys(tmp_path / "keys")
