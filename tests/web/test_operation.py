"""Logs, traces and slow senders: what whoever runs the service sees of it."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from auditsvc.adapters.structured_logs import JsonLines, TextLines, logging_config
from auditsvc.errors import InvalidInput, Unavailable
from auditsvc.ports import about
from auditsvc.settings import Settings
from auditsvc.web import create_app, middleware
from auditsvc.web.app import open_site
from auditsvc.web.state import ProjectState
from tests.web.conftest import Clients

GATE = "/v1/gate?model=net&version=1"


@pytest.fixture
def lines() -> list[str]:
    """What is logged, as it would stand on standard error."""
    found: list[str] = []

    class Keeping(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(self.format(record))

    handler, ours = Keeping(), logging.getLogger("auditsvc")
    handler.setFormatter(JsonLines())
    level = ours.level
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    yield found
    ours.removeHandler(handler)
    ours.setLevel(level)


def test_every_line_about_a_request_has_its_id_and_no_secret(
    clients: Clients, site: ProjectState, lines: list[str]
) -> None:
    client = clients("admin", "eve")
    made = client.post("/v1/tokens", json={"name": "bob", "role": "reader"})
    (told,) = [json.loads(line) for line in lines]
    assert (told["request"], told["method"], told["path"], told["status"]) == (
        made.headers["x-request-id"],
        "POST",
        "/v1/tokens",
        201,
    )
    assert told["time"].endswith("Z") and told["ms"] > 0
    everything = "".join(lines)
    assert made.json()["token"] not in everything and client.headers["authorization"][7:] not in everything


def test_a_warning_inside_a_request_has_its_id_too(clients: Clients, site: ProjectState, lines: list[str]) -> None:
    def broken() -> int:
        raise Unavailable("the disk is gone")

    site.ledger.size = broken  # type: ignore[method-assign]
    got = clients().get("/readyz")
    found = [json.loads(line) for line in lines]
    assert got.status_code == 503
    assert {line["request"] for line in found} == {got.headers["x-request-id"]}
    assert any("the disk is gone" in line["message"] for line in found) and "disk" not in got.text


def test_lines_of_a_job_name_the_job_and_a_fault_is_one_line() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        record = logging.LogRecord("auditsvc.x", logging.ERROR, "", 0, "bad", (), (type(error), error, None))
    with about(job="j1"), about(request="r1"):
        line = JsonLines().format(record)
        words = TextLines("%(message)s").format(logging.LogRecord("x", 20, "", 0, "good", (), None))
    assert "\n" not in line
    told = json.loads(line)
    assert (told["job"], told["request"], "two\nlines" in told["error"]) == ("j1", "r1", True)
    assert words == "good [job=j1 request=r1]"
    with pytest.raises(InvalidInput):
        logging_config("xml")


def test_a_request_is_one_span_and_carries_nothing_that_was_sent(site: ProjectState) -> None:
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    app = create_app(site)
    app._native_telemetry.config["tracer_provider"] = provider  # type: ignore[attr-defined]
    secret, _ = site.access.issue("bob", "reader", 1)
    client = TestClient(app, "http://127.0.0.1", headers={"authorization": f"Bearer {secret}"})
    assert client.get(GATE).status_code == 200
    (span,) = kept.get_finished_spans()
    assert "/v1/gate" in span.name
    assert secret not in str(span.to_json())


def test_traces_that_can_not_be_sent_are_said_so_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auditsvc.web.app.find_spec", lambda name: None)
    with pytest.raises(Unavailable, match=r"auditsvc\[otel\]"):
        open_site(Settings(store=tmp_path, traces=True), "127.0.0.1")


def test_a_sender_that_stops_in_the_middle_is_not_waited_for(
    site: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "BODY_WAIT_S", 0.05)
    secret, _ = site.access.issue("eve", "admin", 1)
    app, answers = create_app(site), []
    headers = [(b"host", b"127.0.0.1"), (b"authorization", f"Bearer {secret}".encode()), (b"content-length", b"100")]
    scope = {
        "type": "http", "method": "POST", "path": "/v1/tokens", "raw_path": b"/v1/tokens", "query_string": b"",
        "headers": [*headers, (b"content-type", b"application/json")], "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80), "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    parts = [{"type": "http.request", "body": b'{"name": ', "more_body": True}]

    async def receive() -> dict[str, object]:
        if parts:
            return parts.pop()
        await asyncio.sleep(60)
        raise AssertionError

    async def send(message: dict[str, object]) -> None:
        answers.append(message)

    asyncio.run(app(scope, receive, send))
    assert answers[0]["status"] == 408
