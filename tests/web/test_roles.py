"""Deny by default: every route against every role, generated from the routes."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from auditsvc.errors import InvalidInput
from auditsvc.web import all_routes, service_schema
from auditsvc.web.auth.authentication import RoleRoute, Router
from auditsvc.web.auth.token_store import ROLES
from auditsvc.web.state import ProjectState
from tests.fakes import FixedClock
from tests.web.access import ROUTES
from tests.web.conftest import Clients
from tests.web.databases import remembered  # noqa: F401 - the tests of this module run on both databases

SERVED = sorted((method, route.path) for route in all_routes() for method in getattr(route, "methods", ()))
ELSEWHERE = ("192.0.2.7", 50000)


def _call(client: TestClient, method: str, path: str) -> int:
    filled = path.replace("{name}", "none").replace("{digest}", "sha256:" + "0" * 64).replace("{", "").replace("}", "")
    own = {"sec-fetch-site": "same-origin"}
    return client.request(method, filled, headers=own).status_code


def test_every_route_checks_the_role_that_it_declares() -> None:
    assert all(isinstance(route, RoleRoute) for route in all_routes())
    assert sorted(ROUTES) == SERVED


def test_a_route_that_declares_no_access_stops_the_start() -> None:
    def secret() -> str:
        return "no role was chosen"

    with pytest.raises(TypeError, match="needs"):
        Router().get("/v1/secret")(secret)  # type: ignore[call-arg]
    with pytest.raises(InvalidInput, match="/v1/secret declares no access"):
        RoleRoute("/v1/secret", secret)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_let_in_exactly_where_it_may(clients: Clients, role: str) -> None:
    client = clients(role)
    for method, path in SERVED:
        needed, status = ROUTES[method, path], _call(client, method, path)
        if needed in ("anyone", "reader", role):
            assert status not in (401, 403), f"{role} is refused at {method} {path}"
        elif needed == "hmac":
            assert status == 401, f"a token stands for no signature at {method} {path}"
        else:
            assert status == 403, f"{role} gets {status} at {method} {path}"


def test_without_a_token_this_machine_reads_and_others_do_nothing(clients: Clients) -> None:
    here, elsewhere = clients(), clients(client=ELSEWHERE)
    for method, path in SERVED:
        needed = ROUTES[method, path]
        assert (_call(here, method, path) in (401, 403)) == (needed not in ("anyone", "reader")), path
        assert (_call(elsewhere, method, path) == 401) == (needed != "anyone"), path


def test_bound_to_another_address_nobody_reads_without_a_token(clients: Clients, site: ProjectState) -> None:
    site.local = False
    assert clients().get("/v1/gate?model=net&version=1").status_code == 401
    assert clients("reader").get("/v1/gate?model=net&version=1").status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"])
def test_what_a_proxy_passes_on_is_not_from_this_machine(reader: TestClient, header: str) -> None:
    assert reader.get("/v1/gate?model=net&version=1", headers={header: "192.0.2.7"}).status_code == 401


@pytest.mark.parametrize("given", ["Bearer auditsvc_wrong", "Bearer ", "Basic YTpi", "Bearer"])
def test_a_bad_token_is_refused_even_where_none_is_needed(reader: TestClient, given: str) -> None:
    got = reader.get("/v1/gate?model=net&version=1", headers={"authorization": given})
    assert (got.status_code, got.json()["code"]) == (401, "unauthenticated")
    assert "bearer" in got.headers["www-authenticate"].lower()


def test_a_token_ends_with_its_time_or_when_it_is_taken_back(
    clients: Clients, site: ProjectState, clock: FixedClock
) -> None:
    client = clients("reader", client=ELSEWHERE)
    assert client.get("/v1/gate?model=net&version=1").status_code == 200
    site.access.revoke(site.access.tokens()[-1].id)
    assert client.get("/v1/gate?model=net&version=1").status_code == 401
    other = clients("reader", client=ELSEWHERE)
    clock.forward(days=1)
    assert other.get("/v1/gate?model=net&version=1").status_code == 401


def test_the_store_holds_no_token(site: ProjectState) -> None:
    secret, _ = site.access.issue("eve", "admin", 1)
    assert len(secret) >= 43
    with site.access.read_tx() as connection:
        rows = connection.execute(select(service_schema.token)).all()
    assert len(rows) == 1 and secret.encode() not in repr(rows).encode()
    for file in site.folder.glob("access.db*"):
        assert secret.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0
