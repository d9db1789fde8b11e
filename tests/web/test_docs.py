"""The OpenAPI document and its page."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from tests.web.access import ROUTES


def test_the_api_reference_loads_nothing_from_other_hosts(reader: TestClient) -> None:
    got = reader.get("/docs")
    loaded = re.findall(r'(?:src|href|spec-url)="([^"]+)"', got.text)
    assert {"/openapi.json", "/static/redoc.standalone.js"} <= set(loaded)
    assert all(link.startswith(("/", "#")) and not link.startswith("//") for link in loaded)
    assert all(reader.get(link).status_code == 200 for link in loaded if link.startswith(("/static", "/openapi")))
    assert "http" not in got.headers["content-security-policy"]


def test_models_and_operations_have_clean_unique_names(reader: TestClient) -> None:
    document = reader.get("/openapi.json").json()
    operations = [one["operationId"] for methods in document["paths"].values() for one in methods.values()]
    assert len(operations) == len(set(operations)) > 80
    verbs = (
        "get|list|create|query|review|download|verify|trace|stream|cancel|retry|revoke|receive|delete|disable|redeliver"
    )
    assert [name for name in operations if not re.fullmatch(rf"({verbs})(_[a-z]+)*", name)] == []
    assert [name for name in document["components"]["schemas"] if not re.fullmatch(r"([A-Z][a-z0-9]*)+", name)] == []


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
    page = reader.get("/problems").text
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
