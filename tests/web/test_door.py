"""What is done with every request and answer: hosts, limits, headers, problems, logs."""

from __future__ import annotations

import logging
import re

import pytest
from starlette.testclient import TestClient

from auditsvc.web.problems import all_codes
from auditsvc.web.state import ProjectState
from tests.web.conftest import Clients

GATE = "/v1/gate?model=net&version=1"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:80", "", "localhost.evil", "[::2]:80"])
def test_a_host_that_is_not_ours_is_refused(reader: TestClient, host: str) -> None:
    got = reader.get(GATE, headers={"host": host})
    assert (got.status_code, got.json()["code"]) == (421, "wrong-host")


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8600", "127.0.0.1:1"])
def test_our_own_names_are_ours_with_any_port(reader: TestClient, host: str) -> None:
    assert reader.get(GATE, headers={"host": host}).status_code == 200


@pytest.mark.parametrize("path", [GATE, "/docs", "/nothing", "/v1/gate", "/static/site.css"])
def test_every_answer_carries_the_security_headers(reader: TestClient, path: str) -> None:
    got = reader.get(path).headers
    assert got["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in got["content-security-policy"]
    assert re.fullmatch("[0-9a-f]{16}", got["x-request-id"])


def test_errors_are_problems_with_a_code(reader: TestClient) -> None:
    for method, path, status, code in (
        ("GET", "/nothing", 404, "not-found"),
        ("PUT", "/v1/gate", 405, "method-not-allowed"),
        ("GET", "/v1/gate", 422, "invalid-input"),
    ):
        got = reader.request(method, path)
        assert (got.status_code, got.headers["content-type"]) == (status, "application/problem+json")
        body = got.json()
        assert (body["code"], body["status"], body["type"]) == (code, status, f"/problems#{code}")
        assert code in all_codes()


def test_a_fault_of_ours_is_a_problem_that_tells_nothing(
    clients: Clients, site: ProjectState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site, "answers", None)
    got = clients().get(GATE)
    assert (got.status_code, got.json()["code"]) == (500, "internal-error")
    assert "NoneType" not in got.text
    assert got.headers["x-request-id"] in got.text


def test_what_is_logged_holds_no_secret(clients: Clients, caplog: pytest.LogCaptureFixture) -> None:
    client = clients("reader")
    secret = client.headers["authorization"].removeprefix("Bearer ")
    with caplog.at_level(logging.DEBUG):
        client.get(f"/nothing?token={secret}")
    ours = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("auditsvc"))
    assert "/nothing" in ours
    assert secret not in ours


def test_metrics_count_by_route_not_by_path(reader: TestClient) -> None:
    reader.get(GATE)
    reader.get("/no/such/path")
    text = reader.get("/metrics").text
    assert 'auditsvc_requests_total{method="GET",route="/v1/gate",status="200"} 1' in text
    assert "/no/such/path" not in text
    assert text.endswith("# EOF\n")
