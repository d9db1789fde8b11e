"""Settings come from the environment, and everything wrong with them is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from auditsvc.cli.output import fail, settings_for
from auditsvc.errors import InvalidInput
from auditsvc.settings import Settings


def test_the_defaults_put_everything_into_one_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made, store = Settings(), tmp_path / "auditsvc-store"
    assert (made.store, made.datasets_dir, made.ledger_file) == (store, store / "data", store / "ledger.db")
    assert (made.jobs_db, made.service_db) == (f"sqlite:///{store}/jobs.db", f"sqlite:///{store}/access.db")
    assert (made.mlflow_store, made.key_uris) == (f"sqlite:///{store}/mlflow.db", {})


def test_jobs_and_the_service_s_tables_follow_the_ledger_to_postgresql(tmp_path: Path) -> None:
    made = Settings(store=tmp_path, ledger_url="postgresql+psycopg://h/d")
    assert made.jobs_db == made.service_db == made.ledger_db == "postgresql+psycopg://h/d"
    assert made.ledger_file is None


def test_the_environment_is_read_with_types_and_an_empty_variable_is_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "PORT": "9000",
        "RESTORE_ALIAS": "0",
        "PROJECTS": "plates, faces",
        "ALLOWED_HOSTS": "",
        "DATA_DIR": "/{project}",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"AUDITSVC_{name}", value)
    made = Settings()
    assert (made.port, made.restore_alias, made.projects, made.allowed_hosts, made.data_dir) == (
        9000, False, ("plates", "faces"), (), Path("/{project}"),
    )  # fmt: skip
    assert Settings(port=1).port == 1


def test_all_faults_are_said_at_once_with_unknown_variables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {"PORT": "http", "LOG_FORMAT": "xml", "WORKRES": "2", "DEVICE": "tpu"}.items():
        monkeypatch.setenv(f"AUDITSVC_{name}", value)
    with pytest.raises(InvalidInput) as caught:
        settings_for(None)
    assert caught.value.reasons == (
        "AUDITSVC_WORKRES: no such setting; did you mean AUDITSVC_WORKERS?",
        "AUDITSVC_DEVICE: String should match pattern '^(cpu|auto|cuda(:\\d+)?)$', not 'tpu'",
        "AUDITSVC_PORT: Input should be a valid integer, unable to parse string as an integer, not 'http'",
        "AUDITSVC_LOG_FORMAT: Input should be 'text' or 'json', not 'xml'",
    )
    assert fail(caught.value) == 2
    assert "did you mean AUDITSVC_WORKERS?" in capsys.readouterr().err


def test_variables_of_the_client_and_of_kubernetes_are_no_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("URL", "TOKEN", "SERVICE_HOST", "PORT_80_TCP"):
        monkeypatch.setenv(f"AUDITSVC_{name}", "tcp://10.0.0.1:80")
    assert Settings().port == 8600


def test_secrets_are_not_shown() -> None:
    secret = {"key_passphrase": "s3cret", "mlflow_webhook_secret": "s3cret", "oidc_client_secret": "s3cret"}
    assert "s3cret" not in repr(Settings(**secret))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../x", "Plates", "", "x" * 41])
def test_a_project_s_name_is_a_plain_folder_name(name: str) -> None:
    with pytest.raises(InvalidInput, match="AUDITSVC_PROJECTS"):
        Settings(projects=(name,))


def test_with_projects_every_url_has_a_place_for_the_name() -> None:
    with pytest.raises(InvalidInput) as caught:
        Settings(projects="plates", ledger_url="postgresql://db/audit", blobs_url="s3://bucket/all")  # type: ignore[arg-type]
    assert [reason.split(":")[0] for reason in caught.value.reasons] == ["AUDITSVC_LEDGER_URL", "AUDITSVC_BLOBS_URL"]


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []
