"""The registry is watched: what others move is logged, counted and put back, and MLflow's webhook makes us look."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from auditsvc.errors import Unavailable
from auditsvc.records import AdmitRequest
from auditsvc.services.registry import ALIAS, set_alias
from auditsvc.web.periodic import PeriodicTask
from auditsvc.web.registry_watcher import RegistryWatcher
from auditsvc.web.state import ProjectState
from auditsvc.web.webhook_delivery import sign
from tests.fakes import FixedClock, MemoryRegistry
from tests.web import sample
from tests.web.conftest import Clients
from tests.web.databases import remembered  # noqa: F401 - the tests of this module run on both databases


@pytest.fixture
def registry(site: ProjectState, clock: FixedClock) -> MemoryRegistry:
    made = site.ctx.registry
    assert isinstance(made, MemoryRegistry)
    sample.register(made)
    set_alias(site.ctx, "net", "1", sample.released().digest)
    clock.forward(minutes=2)
    return made


def _events(site: ProjectState) -> list[dict[str, str]]:
    found = [json.loads(site.ledger.leaf(index)) for index in range(site.ledger.size())]
    return [event for event in found if event["type"] == "alias.changed-externally"]


def test_a_move_is_logged_counted_and_put_back(
    site: ProjectState, registry: MemoryRegistry, reader: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    watch = RegistryWatcher(site)
    assert watch.round() == ()
    registry.move_alias("net", ALIAS, "3")
    with caplog.at_level(logging.WARNING):
        assert len(watch.round()) == 1
    assert registry.aliased("net", ALIAS) == "1"
    (event,) = _events(site)
    assert (event["model"], event["name"], event["before"], event["found"], event["put_back"]) == (
        ("net", ALIAS, "1", "3", "true")
    )
    assert "alias approved of net was moved from 1 to 3 outside auditsvc, and restored" in caplog.text
    assert "auditsvc_registry_moves_total 1" in reader.get("/metrics").text
    assert watch.round() == ()


def test_what_was_moved_while_the_service_was_down_is_found(site: ProjectState, registry: MemoryRegistry) -> None:
    RegistryWatcher(site).round()
    registry.move_alias("net", "champion", "2")
    assert [move.name for move in RegistryWatcher(site).round()] == ["champion"]


def test_a_store_in_a_file_is_asked_only_when_the_file_changed(
    site: ProjectState, registry: MemoryRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    placed = registry.placed
    monkeypatch.setattr(registry, "placed", lambda: asked.append(1) or placed())
    store = tmp_path / "mlflow.db"
    watch = RegistryWatcher(site, store)
    watch.round()
    assert asked == []
    store.write_bytes(b"1")
    watch.round()
    watch.round()
    assert asked == [1]


def _sent(site: ProjectState, client: TestClient, event: dict[str, object], secret: str = "s") -> int:
    body, now = json.dumps(event).encode(), int(time.time())
    headers = {
        "x-mlflow-signature": sign(secret.encode(), "d1", now, body),
        "x-mlflow-delivery-id": "d1",
        "x-mlflow-timestamp": str(now),
    }
    return client.post("/v1/mlflow/events", content=body, headers=headers).status_code


def test_mlflow_s_webhook_makes_us_look(clients: Clients, site: ProjectState, registry: MemoryRegistry) -> None:
    site.rounds["watching"] = PeriodicTask("watching", lambda: None, 3600)
    event = {"entity": "model_version_alias", "action": "created", "data": {"name": "net", "alias": ALIAS}}
    elsewhere = clients(client=("192.0.2.7", 1))
    assert _sent(site, elsewhere, event) == 401
    site.mlflow_secret = "s"
    assert _sent(site, elsewhere, event, "wrong") == 401
    assert not site.rounds["watching"]._woken.is_set()
    assert _sent(site, elsewhere, event) == 202
    assert site.rounds["watching"]._woken.is_set()


def test_a_version_that_was_registered_is_logged(clients: Clients, site: ProjectState) -> None:
    site.mlflow_secret = "s"
    event = {"entity": "model_version", "action": "created", "data": {"name": "other", "version": "7"}}
    assert _sent(site, clients(), event) == 202
    told = json.loads(site.ledger.leaf(site.ledger.size() - 1))
    assert (told["type"], told["model"], told["version"]) == ("model-version.registered", "other", "7")
    before = site.ledger.size()
    assert _sent(site, clients(), event | {"data": {"name": "net", "version": "1"}}) == 202
    assert site.ledger.size() == before


def test_a_version_that_was_registered_is_audited_once_where_that_is_set(clients: Clients, site: ProjectState) -> None:
    site.mlflow_secret, site.audit_policy, site.audit_data = "s", "standard", "faces"
    event = {"entity": "model_version", "action": "created", "data": {"name": "net", "version": "9"}}
    for _ in range(2):
        assert _sent(site, clients(), event) == 202
    (job,) = site.jobs.page(kind="admit")
    order = job.request
    assert isinstance(order, AdmitRequest)
    assert (job.submitted_by, order.reference, order.parent) == ("mlflow", "models:/net/9", sample.PARENT.digest)
    assert (order.policy, order.data) == ("standard", "faces")
    ours = event | {"data": {"name": "net", "version": "10", "tags": {"auditsvc.digest": "sha256:0"}}}
    without_parent = event | {"data": {"name": "other", "version": "1"}}
    assert [_sent(site, clients(), one) for one in (ours, without_parent)] == [202, 202]
    odd = event | {"data": {"name": "net", "version": "x y"}}
    assert _sent(site, clients(), odd) == 422
    assert len(site.jobs.page(kind="admit")) == 1


def test_rounds_go_on_after_trouble_and_end_when_told() -> None:
    done: list[int] = []

    def work() -> None:
        done.append(1)
        raise Unavailable("not now")

    rounds = PeriodicTask("trying", work, 0.01)
    rounds.start()
    until = time.monotonic() + 10
    while len(done) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    rounds.stop()
    assert len(done) >= 3
    assert rounds._thread is not None and not rounds._thread.is_alive()


def test_a_released_version_that_is_lost_or_replaced_is_an_event_a_metric_and_degraded_readiness(
    site: ProjectState, registry: MemoryRegistry, reader: TestClient
) -> None:
    watch = RegistryWatcher(site)
    watch.round()
    assert reader.get("/readyz").json()["status"] == "ready"
    kept = registry.tags.pop(("net", "1"))
    watch.round()
    told = [json.loads(site.ledger.leaf(index)) for index in range(site.ledger.size())]
    assert [event["type"] for event in told].count("model-version.compared") == 1
    assert reader.get("/readyz").json()["degraded"] == ["registry-watch"]
    assert 'auditsvc_registry_faults{project="main"} 1.0' in reader.get("/metrics").text
    assert reader.get("/v1/gate?model=net&version=1").json()["answer"] == "inconclusive"
    registry.tags["net", "1"] = kept
    watch.round()
    assert reader.get("/readyz").json() == {"status": "ready", "log_size": site.ledger.size(), "degraded": []}
    assert reader.get("/v1/gate?model=net&version=1").json()["answer"] == "approved"
