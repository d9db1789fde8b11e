"""A remote MLflow server that asks who one is: with a name it works, without one it says what is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from auditsvc.adapters.mlflow_registry import MlflowRegistry
from auditsvc.errors import Unavailable
from tests.adapters.mlflow_server import mlflow_server
from tests.contracts.sample import WEIGHTS, a_candidate, a_parent

pytestmark = pytest.mark.slow

PASSWORD = "a-long-password-of-the-test"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("flask_wtf", reason="MLflow's authentication needs Flask-WTF")
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), PASSWORD) as uri:
        yield uri


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


def known_as(patch: pytest.MonkeyPatch, name: str, password: str) -> None:
    patch.setenv("MLFLOW_TRACKING_USERNAME", name)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", password)


def test_with_a_name_and_password_versions_are_registered_and_aliases_moved(
    server: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_as(monkeypatch, "admin", PASSWORD)
    registry = MlflowRegistry(server, tmp_path / "artifacts")
    assert registry.register_parent(a_parent("net"), files) == "1"
    assert registry.register_candidate(a_candidate(1, "net"), files, "1") == "2"
    registry.move_alias("net", "approved", "2")
    assert registry.aliased("net", "approved") == "2"


@pytest.mark.parametrize(("name", "password"), [("admin", "wrong"), ("nobody", PASSWORD)])
def test_without_a_good_one_nothing_is_done_and_the_secret_is_not_told(
    server: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, password: str
) -> None:
    known_as(monkeypatch, name, password)
    with pytest.raises(Unavailable, match="set MLFLOW_TRACKING_USERNAME") as caught:
        MlflowRegistry(server, tmp_path / "artifacts").register_parent(a_parent("other"), files)
    assert password not in str(caught.value)
