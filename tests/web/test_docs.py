"""The OpenAPI document and its page."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from auditsvc.web.permissions import ROUTES


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


def test_the_links_of_every_list_lead_to_its_records(reader: TestClient) -> None:
    """What the document says about the next request holds: the first record of a list is found under its digest."""
    followed = 0
    paths = reader.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        if not (links := methods.get("get", {}).get("responses", {}).get("200", {}).get("links")):
            continue
        own = next(
            found["get"]["operationId"]
            for name, found in paths.items()
            if name.startswith(f"{path}/{{") and "get" in found
        )
        ((called, expression),) = links[own]["parameters"].items()
        assert expression == f"$response.body#/items/0/{called}"
        for item in reader.get(path).json()["items"][:1]:
            assert reader.get(f"{path}/{item[called]}").json() == item["record"]
            followed += 1
    assert followed >= 8
