"""Events reach those who asked, once under each name, whatever breaks in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from auditsvc.adapters.webhook_http import checked_address, post
from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.web.state import ProjectState
from auditsvc.web.webhooks.dispatcher import WebhookDispatcher
from auditsvc.web.webhooks.webhook_signing import check, key_of
from auditsvc.web.webhooks.webhook_store import LEASE_S, PAUSES_S, WebhookStore
from tests.fakes import FixedClock
from tests.web import sample
from tests.web.conftest import Clients
from tests.web.databases import remembered  # noqa: F401 - the tests of this module run on both databases

URL = "https://ci.example.org/hook"


class Receiver:
    """Answers with the status that it is told, and keeps what it got."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[str, bytes, Mapping[str, str]]] = []

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if self.status == 0:
            raise Unavailable("nobody there")
        self.got.append((url, body, headers))
        return self.status


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def courier(site: ProjectState, receiver: Receiver) -> WebhookDispatcher:
    made = WebhookDispatcher(site.ledger, site.book, site.clock, receiver)
    made.round()
    return made


def _something_happens(site: ProjectState) -> None:
    site.ledger.append(sample.approval(2, "bob"), actor="bob")


def test_what_happens_is_told_signed_and_once(
    site: ProjectState, courier: WebhookDispatcher, receiver: Receiver
) -> None:
    secret, hook = site.book.add(URL, (), "eve")
    _something_happens(site)
    assert (courier.round(), courier.round()) == (1, 0)
    ((url, body, headers),) = receiver.got
    entry = site.ledger.leaf_index(sample.approval(2, "bob").digest)
    assert (url, headers["webhook-id"]) == (URL, f"msg_{hook.id}_{entry}")
    told = json.loads(body)
    assert (told["type"], told["data"]["actor"], told["data"]["entry"]) == ("approval", "bob", entry)
    at = headers["webhook-timestamp"]
    check(key_of(secret), headers["webhook-id"], at, body, headers["webhook-signature"], float(at))
    assert [one.state for one in site.book.deliveries()] == ["delivered"]


def test_a_receiver_is_told_of_what_it_asked_for_from_then_on(
    site: ProjectState, courier: WebhookDispatcher, receiver: Receiver
) -> None:
    site.book.add(URL, ("release",), "eve")
    _something_happens(site)
    assert courier.round() == 0
    site.note("release", "auditsvc")
    assert courier.round() == 1


def test_one_that_fails_is_tried_again_with_pauses_then_dead_then_sent_by_hand(
    site: ProjectState, courier: WebhookDispatcher, receiver: Receiver, clock: FixedClock
) -> None:
    site.book.add(URL, (), "eve")
    receiver.status = 500
    _something_happens(site)
    for tried, pause in enumerate(PAUSES_S, start=1):
        assert (courier.round(), courier.round()) == (1, 0)
        assert site.book.deliveries()[0].tries == tried
        clock.forward(seconds=pause)
    receiver.status = 0
    courier.round()
    (dead,) = site.book.deliveries("dead")
    assert (dead.tries, dead.trouble) == (len(PAUSES_S) + 1, "nobody there")
    clock.forward(days=9)
    assert courier.round() == 0
    receiver.status = 204
    site.book.resend(dead.id)
    assert courier.round() == 1
    assert len({headers["webhook-id"] for _, _, headers in receiver.got}) == 1
    assert site.book.deliveries("dead") == ()


def test_a_receiver_that_is_gone_is_not_asked_again(
    site: ProjectState, courier: WebhookDispatcher, receiver: Receiver
) -> None:
    site.book.add(URL, (), "eve")
    receiver.status = 410
    _something_happens(site)
    courier.round()
    assert [one.state for one in site.book.deliveries()] == ["dead"]


def test_a_courier_that_was_killed_loses_nothing(
    site: ProjectState, courier: WebhookDispatcher, clock: FixedClock
) -> None:
    """Its claim runs out, and another courier sends the same message under the same id."""
    site.book.add(URL, (), "eve")
    _something_happens(site)

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WebhookDispatcher(site.ledger, site.book, site.clock, killed).round()
    other = Receiver()
    survivor = WebhookDispatcher(site.ledger, WebhookStore(site.access, site.clock), site.clock, other)
    assert survivor.round() == 0
    clock.forward(seconds=LEASE_S)
    assert survivor.round() == 1
    assert len(other.got) == 1


def test_an_ended_receiver_is_told_nothing_more(
    site: ProjectState, courier: WebhookDispatcher, receiver: Receiver
) -> None:
    _, hook = site.book.add(URL, (), "eve")
    receiver.status = 500
    _something_happens(site)
    courier.round()
    site.book.end(hook.id)
    site.note("anything", "eve")
    assert (courier.round(), [one.state for one in site.book.deliveries()]) == (0, ["dead"])
    with pytest.raises(NotFound):
        site.book.resend(site.book.deliveries()[0].id)


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(302 if self.path == "/away" else 202)
            self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_real_receiver_answers_and_redirects_are_not_followed(server: ThreadingHTTPServer) -> None:
    base = f"http://127.0.0.1:{server.server_port}"
    assert post(f"{base}/hook?x=1", b"{}", {"webhook-id": "m"}) == 202
    assert post(f"{base}/away", b"{}", {}) == 302
    with pytest.raises(Unavailable):
        post("http://127.0.0.1:9/", b"{}", {})


@pytest.mark.parametrize(
    "url",
    ["http://example.org/", "ftp://example.org", "https://u:p@example.org/", "https://", "https://x/\r\nHost: y", "x"],
)
def test_an_address_that_would_give_something_away_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        checked_address(url)


def test_an_admin_adds_lists_ends_and_sends_again(clients: Clients, site: ProjectState, receiver: Receiver) -> None:
    admin = clients("admin", "eve")
    courier = WebhookDispatcher(site.ledger, site.book, site.clock, receiver)
    courier.round()
    made = admin.post("/v1/receivers", json={"url": URL, "events": ["approval"]})
    assert made.status_code == 201
    secret, hook = made.json()["secret"], made.json()["about"]["id"]
    assert secret not in admin.get("/v1/receivers").text
    assert admin.post("/v1/receivers", json={"url": "http://example.org"}).json()["code"] == "invalid-input"
    receiver.status = 410
    _something_happens(site)
    courier.round()
    (dead,) = admin.get("/v1/deliveries?state=dead").json()
    assert admin.post(f"/v1/deliveries/{dead['id']}/send").json()["state"] == "waiting"
    assert admin.delete(f"/v1/receivers/{hook}").json()["ended"]
    assert admin.post(f"/v1/deliveries/{dead['id']}/send").status_code == 404
    types = [json.loads(site.ledger.leaf(index))["type"] for index in range(site.ledger.size())]
    assert [kind for kind in types if kind.startswith(("receiver", "delivery"))] == [
        "receiver-added",
        "delivery-sent-again",
        "receiver-ended",
    ]
