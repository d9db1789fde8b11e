"""The compose file asks for nothing that the code does not know, and brings no password of its own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from auditsvc.settings import Settings

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
OURS = ("api", "worker", "signer")


def settings_of(service: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What a container of this service would read from its environment."""
    for name, value in COMPOSE["services"][service]["environment"].items():
        monkeypatch.setenv(name, re.sub(r"\$\{[^}]*\}", "secret", str(value)))
    return Settings()


@pytest.mark.parametrize("service", OURS)
def test_every_setting_in_it_is_one_that_is_read(service: str) -> None:
    known = {f"AUDITSVC_{name.upper()}" for name in Settings.model_fields}
    given = {name for name in COMPOSE["services"][service]["environment"] if name.startswith("AUDITSVC_")}
    assert given - known == set()


@pytest.mark.parametrize("service", OURS)
def test_service_and_workers_share_their_stores(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings_of(service, monkeypatch)
    assert found.jobs_db == found.ledger_db == "postgresql+psycopg://auditsvc:secret@postgres/auditsvc"
    assert (found.mlflow_store, found.blobs_url, found.workers) == ("http://mlflow:5000", "s3://auditsvc/blobs", 0)
    assert {"store:/store"} <= set(COMPOSE["services"][service]["volumes"])


def test_only_the_signer_has_keys_and_it_runs_as_another_user() -> None:
    for name, service in COMPOSE["services"].items():
        has = (
            "AUDITSVC_KEY_PASSPHRASE" in service.get("environment", {}),
            "keys:/store/keys" in service.get("volumes", ()),
        )
        assert has == ((name == "signer"),) * 2
    assert COMPOSE["services"]["signer"]["user"] == "10002:10001"


def test_no_password_is_written_in_it_and_none_may_be_left_out() -> None:
    given = [pair for service in COMPOSE["services"].values() for pair in service.get("environment", {}).items()]
    secret = {name: value for name, value in given if re.search("PASSWORD|SECRET|PASSPHRASE", name)}
    assert len(secret) >= 4
    assert [name for name, value in secret.items() if not re.fullmatch(r"\$\{\w+:\?\}", value)] == []
    lines = (DOCKER / "example.env").read_text().split("\n")
    example = dict(line.split("=") for line in lines if re.match(r"\w", line))
    wanted = set(re.findall(r"\$\{(\w+):\?\}", (DOCKER / "compose.yaml").read_text()))
    assert {name: example[name] for name in wanted} == dict.fromkeys(wanted, "")


def test_only_the_service_has_a_port_and_only_on_this_machine() -> None:
    ctx = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert ctx == {"api": ["127.0.0.1:8600:8600"]}


def test_what_it_builds_is_in_the_dockerfile_and_what_it_mounts_is_there() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\w+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE))
    for service in COMPOSE["services"].values():
        if "build" in service:
            assert service["build"]["target"] in stages
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"] or source.startswith("$") or (DOCKER / source).exists()
