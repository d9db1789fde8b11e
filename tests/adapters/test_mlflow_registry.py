"""The registry as MLflow's own client sees it: tags, files, runs, and what an interruption leaves."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from auditsvc.adapters.mlflow_registry import MlflowRegistry
from auditsvc.adapters.mlflow_sqlite import StoredVersion, copied, stored_version
from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.records import digest_of
from tests.adapters.unprivileged import read_only
from tests.contracts.sample import WEIGHTS, a_candidate, a_parent

_numbers = itertools.count()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def registry(store: Path) -> MlflowRegistry:
    return _open(store)


@pytest.fixture
def model() -> str:
    return f"net-{next(_numbers)}"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "sub" / "card.json").write_bytes(b"{}")
    return folder


def _open(store: Path) -> MlflowRegistry:
    return MlflowRegistry(f"sqlite:///{store}/mlflow.db", store / "artifacts")


def test_a_version_says_where_it_comes_from(registry: MlflowRegistry, model: str, files: Path) -> None:
    registry.register_parent(a_parent(model), files)
    candidate = a_candidate(1, model)
    version = registry.register_candidate(candidate, files, "1")
    found = registry._client.get_model_version(model, version)
    assert candidate.recipe is not None
    assert found.tags == {
        "auditsvc.digest": candidate.digest,
        "auditsvc.role": "candidate",
        "auditsvc.task": "classification",
        "auditsvc.architecture": "tiny",
        "auditsvc.parent_digest": a_parent(model).digest,
        "auditsvc.parent_version": "1",
        "auditsvc.recipe": candidate.recipe.canonical().decode(),
        "source": f"pruned from {model}/1; https://example.org/net",
        "licence": "MIT",
    }
    run = registry._client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics == candidate.card
    assert run.data.params == {
        "task": "classification",
        "architecture": "tiny",
        "recipe.method": "magnitude",
        "recipe.seed": "1",
        "recipe.sparsity": "0.3",
        "recovery.epochs": "2",
    }


def test_a_parent_carries_its_source_and_licence(registry: MlflowRegistry, model: str, files: Path) -> None:
    tags = registry._client.get_model_version(model, registry.register_parent(a_parent(model), files)).tags
    assert (tags["source"], tags["licence"]) == ("https://example.org/net", "MIT")
    assert tags["auditsvc.digest"] == a_parent(model).digest


def test_others_can_download_what_was_registered(
    registry: MlflowRegistry, store: Path, model: str, files: Path, tmp_path: Path
) -> None:
    import mlflow

    registry.register_parent(a_parent(model), files)
    registry.move_alias(model, "approved", "1")
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    got = Path(mlflow.artifacts.download_artifacts(f"models:/{model}@approved", dst_path=str(tmp_path / "got")))
    assert (got / "model.safetensors").read_bytes() == WEIGHTS
    assert (got / "sub" / "card.json").read_bytes() == b"{}"


STEPS = (
    "create_run",
    "log_batch",
    "log_artifacts",
    "set_terminated",
    "create_registered_model",
    "create_model_version",
)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_an_interrupted_registration_is_finished_by_the_next(
    store: Path,
    registry: MlflowRegistry,
    model: str,
    files: Path,
    step: str,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    does = getattr(registry._client, step)

    def interrupted(*args: object, **kwargs: object) -> None:
        if when == "after":
            does(*args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(registry._client, step, interrupted)
        registry.register_parent(a_parent(model), files)
    assert [registry.register_parent(a_parent(model), files) for _ in range(2)] == ["1", "1"]
    versions = registry._client.search_model_versions(f"name='{model}'")
    assert len(versions) == 1
    digest = a_parent(model).digest
    runs = registry._client.search_runs([registry._experiment], f"tags.`auditsvc.digest`='{digest}'")
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert versions[0].run_id == runs[0].info.run_id
    kept = Path(versions[0].source.removeprefix("file://"))
    assert digest_of((kept / "model.safetensors").read_bytes()) == digest_of(WEIGHTS)


def test_an_alias_name_that_mlflow_keeps_for_itself_is_bad_input(
    registry: MlflowRegistry, model: str, files: Path
) -> None:
    registry.register_parent(a_parent(model), files)
    with pytest.raises(InvalidInput, match="reserved"):
        registry.move_alias(model, "latest", "1")


def test_odd_names_of_facts_are_no_obstacle(registry: MlflowRegistry, model: str, files: Path) -> None:
    registry.register_parent(a_parent(model), files)
    candidate = a_candidate(1, model)
    odd = candidate.model_copy(update={"card": {"MAC's (M)": 3.5}})
    found = registry._client.get_model_version(model, registry.register_candidate(odd, files, "1"))
    assert registry._client.get_run(found.run_id).data.metrics == {"MAC_s _M_": 3.5}


REGISTER = """
import json, logging, os, sys
from pathlib import Path
logging.basicConfig(level=logging.INFO)
from auditsvc.adapters.mlflow_registry import MlflowRegistry
from auditsvc.adapters.mlflow_sqlite import StoredVersion, copied, stored_version
from tests.contracts.sample import a_candidate, a_parent
assert "mlflow" not in sys.modules
registry = MlflowRegistry("sqlite:///{store}/mlflow.db", Path("{store}/artifacts"))
assert "mlflow" not in sys.modules
print("ready", flush=True)
version = registry.register_parent(a_parent("shared"), Path("{files}"))
from mlflow.telemetry import get_telemetry_client
print(json.dumps([version, get_telemetry_client() is None, os.listdir()]), flush=True)
"""


def _process(store: Path, files: Path, cwd: Path) -> subprocess.Popen[str]:
    code = REGISTER.format(store=store, files=files)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])}
    for name in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_LOGGING_LEVEL"):
        environment.pop(name, None)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment,
    )


@pytest.mark.slow
def test_two_processes_at_once_make_one_version_in_silence(tmp_path: Path, files: Path) -> None:
    """On a store that is new; nothing is said, nothing is sent, and nothing is left where they were started."""
    (tmp_path / "cwd").mkdir()
    started = [_process(tmp_path / "new", files, tmp_path / "cwd") for _ in range(2)]
    for process in started:
        out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        assert json.loads(out.splitlines()[-1]) == ["1", True, []]
    assert len(_open(tmp_path / "new")._client.search_model_versions("name='shared'")) == 1


def test_a_server_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        Unavailable, match=r"http://127\.0\.0\.1:9 can't be reached.*check that the server runs"
    ) as caught:
        MlflowRegistry("http://me:secret@127.0.0.1:9", tmp_path).aliased("net", "approved")
    assert "secret" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("wait_s", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0])
def test_a_first_start_that_was_killed_is_done_again(tmp_path: Path, files: Path, wait_s: float) -> None:
    (tmp_path / "cwd").mkdir()
    process = _process(tmp_path / "new", files, tmp_path / "cwd")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(wait_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert _open(tmp_path / "new").register_parent(a_parent("shared"), files) == "1"


def test_a_store_that_is_no_database_is_named_at_once(tmp_path: Path, files: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database at all" * 100)
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=r"mlflow\.db is not a database: use another path"):
        _open(tmp_path).register_parent(a_parent(), files)
    assert time.monotonic() - begun < 10  # MLflow itself would try for an hour


def test_a_folder_that_may_not_be_written_is_named(registry: MlflowRegistry, tmp_path: Path, files: Path) -> None:
    assert registry.aliased("nothing", "approved") is None  # MLflow is imported before the rights are given up
    (tmp_path / "locked").mkdir()
    with read_only(tmp_path / "locked"), pytest.raises(Unavailable, match=r"locked.*Permission denied"):
        _open(tmp_path / "locked" / "deeper").register_parent(a_parent(), files)


def test_a_store_that_may_not_be_written_is_named_without_a_traceback(
    store: Path, registry: MlflowRegistry, model: str, files: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    registry.register_parent(a_parent(model), files)
    (tmp_path / "copy").mkdir()
    with closing(sqlite3.connect(store / "mlflow.db")) as ours:
        ours.execute("VACUUM INTO ?", (str(tmp_path / "copy" / "mlflow.db"),))
    with (
        read_only(tmp_path / "copy"),
        pytest.raises(Unavailable, match="can't be written: give this user write access"),
    ):
        _open(tmp_path / "copy").move_alias(model, "approved", "1")
    assert capfd.readouterr() == ("", "")


def test_a_store_of_another_mlflow_is_named(store: Path, registry: MlflowRegistry, tmp_path: Path) -> None:
    assert registry.aliased("nothing", "approved") is None
    with closing(sqlite3.connect(store / "mlflow.db")) as ours, closing(sqlite3.connect(tmp_path / "mlflow.db")) as old:
        ours.backup(old)
        with old:
            old.execute("UPDATE alembic_version SET version_num = 'older'")
    with pytest.raises(Unavailable, match="out-of-date database schema"):
        _open(tmp_path).aliased("net", "approved")


def test_a_version_is_read_without_mlflow_as_mlflow_reads_it(
    registry: MlflowRegistry, store: Path, model: str, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registry.register_parent(a_parent(model), files)
    found, folder = registry.registered(model, version), registry.checkout(model, version, tmp_path / "plain")
    with monkeypatch.context() as patched:
        patched.setattr("auditsvc.adapters.mlflow_registry.stored_version", lambda *_: None)
        assert registry.registered(model, version) == found
        other = registry.checkout(model, version, tmp_path / "mlflow")
    names = [sorted(path.relative_to(one) for path in one.rglob("*")) for one in (folder, other)]
    assert names[0] == names[1] and folder.name == other.name
    assert all((folder / name).read_bytes() == (other / name).read_bytes() for name in names[0] if name.suffix)
    code = (
        "import sys; from pathlib import Path; from auditsvc.adapters.mlflow_registry import MlflowRegistry;"
        f"registry = MlflowRegistry('sqlite:///{store}/mlflow.db', Path('{store}/artifacts'));"
        f"registry.registered('{model}', '{version}');"
        f"registry.checkout('{model}', '{version}', Path('{tmp_path}/third'));"
        "print('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_mlflow_is_asked_where_a_store_or_its_files_are_not_plain(
    registry: MlflowRegistry, store: Path, model: str, files: Path, tmp_path: Path
) -> None:
    version = registry.register_parent(a_parent(model), files)
    database = store / "mlflow.db"

    def read() -> StoredVersion | None:
        return stored_version(database, model, version, "auditsvc.digest")

    plain = read()
    assert plain is not None and stored_version(tmp_path / "none.db", model, version, "a") is None
    assert stored_version(files / "model.safetensors", model, version, "a") is None
    for change in ("current_stage = 'Deleted_Internal'", "workspace = 'other'"):
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("PRAGMA foreign_keys = OFF")
            connection.execute(f"UPDATE model_versions SET {change} WHERE name = ?", (model,))
        assert read() is None
        with pytest.raises(NotFound):
            registry.registered(model, version)
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(
                "UPDATE model_versions SET current_stage = 'None', workspace = 'default' WHERE name = ?", (model,)
            )
    assert copied("mlflow-artifacts:/1/candidate", tmp_path) is None
    assert copied((tmp_path / "missing").as_uri(), tmp_path / "out") is None
    (files / "link").symlink_to(tmp_path)
    assert copied(files.as_uri(), tmp_path / "out") is None
