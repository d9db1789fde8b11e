"""The guide over HTTP: every page is shown, its links lead to pages, nothing outside of it is read."""

from __future__ import annotations

import re

import pytest
from starlette.testclient import TestClient

from auditsvc.web.pages.policies import _names


@pytest.mark.parametrize("name", sorted(_names()))
def test_every_page_is_shown_and_links_to_pages(reader: TestClient, name: str) -> None:
    shown = reader.get(f"/guide/{name}")
    assert shown.status_code == 200
    linked = re.findall(r'href="/guide/([^"#]+)"', shown.text)
    assert set(linked) <= _names()


def test_the_contents_are_the_start(reader: TestClient) -> None:
    assert "auditsvc guide" in reader.get("/guide").text


@pytest.mark.parametrize("name", ["nothing", "../settings", "%2e%2e/settings", "decisions"])
def test_nothing_else_is_read(reader: TestClient, name: str) -> None:
    assert reader.get(f"/guide/{name}").status_code == 404
