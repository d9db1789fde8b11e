"""The OpenAPI document and its page."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from auditsvc.api.rights import ROUTES


def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(reader: TestClient) -> None:
    page = reader.get("/docs").text
    for path in reader.get("/openapi.json").json()["paths"]:
        assert f"<code>{path}</code>" in page
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in loaded)
    assert "<script" not in page


def test_every_link_on_the_page_leads_somewhere(reader: TestClient) -> None:
    page = reader.get("/docs").text
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors


def test_the_document_names_the_role_and_the_errors_of_every_operation(reader: TestClient) -> None:
    document = reader.get("/openapi.json").json()
    table = {(method, path.replace(":path", "")): needed for (method, path), needed in ROUTES.items()}
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert operation["x-role"] == table[method.upper(), path]
            assert operation["summary"] and operation["description"]
            assert "application/problem+json" in operation["responses"]["503"]["content"]


def test_every_error_code_is_explained(reader: TestClient) -> None:
    page = reader.get("/docs").text
    for code in ("not-found", "conflict", "not-approved", "wrong-host", "unavailable"):
        assert f'id="{code}"' in page
