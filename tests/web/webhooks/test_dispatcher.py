"""Every webhook gets every event that it subscribes to, under one id, whatever fails in between."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from auditsvc.errors import InvalidInput, NotFound, Unavailable
from auditsvc.web.state import ProjectState
from auditsvc.web.webhook_delivery import (
    LEASE_S,
    RETRY_DELAYS_S,
    WebhookDispatcher,
    WebhookSender,
    WebhookStore,
    is_public,
    key_of,
    verify,
)
from tests.fakes import FixedClock
from tests.web import sample
from tests.web.conftest import Clients
from tests.web.databases import remembered  # noqa: F401 - the tests of this module run on both databases

URL = "https://ci.example.org/hook"


class Recipient:
    """Answers with a chosen status and records what it received."""

    def __init__(self) -> None:
        self.status = 200
        self.got: list[tuple[str, bytes, Mapping[str, str]]] = []

    def __call__(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        if self.status == 0:
            raise Unavailable("nobody there")
        self.got.append((url, body, headers))
        return self.status


@pytest.fixture
def recipient() -> Recipient:
    return Recipient()


@pytest.fixture
def dispatcher(site: ProjectState, recipient: Recipient) -> WebhookDispatcher:
    made = WebhookDispatcher(site.ledger, site.webhooks, site.clock, recipient)
    made.run_once()
    return made


def _something_happens(site: ProjectState) -> None:
    site.ledger.append(sample.approval(2, "bob"), actor="bob")


def test_an_event_is_sent_signed_and_once(
    site: ProjectState, dispatcher: WebhookDispatcher, recipient: Recipient
) -> None:
    secret, webhook = site.webhooks.add(URL, (), "eve")
    _something_happens(site)
    assert (dispatcher.run_once(), dispatcher.run_once()) == (1, 0)
    ((url, body, headers),) = recipient.got
    entry = site.ledger.leaf_index(sample.approval(2, "bob").digest)
    assert (url, headers["webhook-id"]) == (URL, f"msg_{webhook.id}_{entry}")
    message = json.loads(body)
    assert (message["type"], message["data"]["actor"], message["data"]["entry"]) == ("decision.approved", "bob", entry)
    at = headers["webhook-timestamp"]
    verify(key_of(secret), headers["webhook-id"], at, body, headers["webhook-signature"], float(at))
    assert [one.state for one in site.webhooks.deliveries()] == ["delivered"]


def test_a_webhook_gets_only_later_events_that_it_subscribes_to(
    site: ProjectState, dispatcher: WebhookDispatcher, recipient: Recipient
) -> None:
    site.webhooks.add(URL, ("release.created",), "eve")
    _something_happens(site)
    assert dispatcher.run_once() == 0
    site.log_event("release.created", "auditsvc")
    assert dispatcher.run_once() == 1


def test_a_failed_delivery_is_retried_with_delays_and_then_on_request(
    site: ProjectState, dispatcher: WebhookDispatcher, recipient: Recipient, clock: FixedClock
) -> None:
    site.webhooks.add(URL, (), "eve")
    recipient.status = 500
    _something_happens(site)
    for tried, pause in enumerate(RETRY_DELAYS_S, start=1):
        assert (dispatcher.run_once(), dispatcher.run_once()) == (1, 0)
        assert site.webhooks.deliveries()[0].attempts == tried
        clock.forward(seconds=pause)
    recipient.status = 0
    dispatcher.run_once()
    (failed,) = site.webhooks.deliveries("failed")
    assert (failed.attempts, failed.last_error) == (len(RETRY_DELAYS_S) + 1, "nobody there")
    clock.forward(days=9)
    assert dispatcher.run_once() == 0
    recipient.status = 204
    site.webhooks.redeliver(failed.id)
    assert dispatcher.run_once() == 1
    assert len({headers["webhook-id"] for _, _, headers in recipient.got}) == 1
    assert site.webhooks.deliveries("failed") == ()


def test_a_recipient_that_answers_410_gets_no_retry(
    site: ProjectState, dispatcher: WebhookDispatcher, recipient: Recipient
) -> None:
    site.webhooks.add(URL, (), "eve")
    recipient.status = 410
    _something_happens(site)
    dispatcher.run_once()
    assert [one.state for one in site.webhooks.deliveries()] == ["failed"]


def test_a_killed_dispatcher_loses_no_event(
    site: ProjectState, dispatcher: WebhookDispatcher, clock: FixedClock
) -> None:
    """Its lease expires, and another dispatcher sends the same message under the same id."""
    site.webhooks.add(URL, (), "eve")
    _something_happens(site)

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        WebhookDispatcher(site.ledger, site.webhooks, site.clock, killed).run_once()
    other = Recipient()
    survivor = WebhookDispatcher(site.ledger, WebhookStore(site.access, site.clock), site.clock, other)
    assert survivor.run_once() == 0
    clock.forward(seconds=LEASE_S)
    assert survivor.run_once() == 1
    assert len(other.got) == 1


def test_a_disabled_webhook_gets_nothing_more(
    site: ProjectState, dispatcher: WebhookDispatcher, recipient: Recipient
) -> None:
    _, webhook = site.webhooks.add(URL, (), "eve")
    recipient.status = 500
    _something_happens(site)
    dispatcher.run_once()
    site.webhooks.disable(webhook.id)
    site.log_event("any.event", "eve")
    assert (dispatcher.run_once(), [one.state for one in site.webhooks.deliveries()]) == (0, ["failed"])
    with pytest.raises(NotFound):
        site.webhooks.redeliver(site.webhooks.deliveries()[0].id)


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
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_real_recipient_answers_and_redirects_are_not_followed(server: ThreadingHTTPServer) -> None:
    base = f"http://127.0.0.1:{server.server_port}"
    post = WebhookSender(frozenset({"127.0.0.1"})).post
    assert post(f"{base}/hook?x=1", b"{}", {"webhook-id": "m"}) == 202
    assert post(f"{base}/away", b"{}", {}) == 302
    with pytest.raises(Unavailable):
        post("http://127.0.0.1:9/", b"{}", {})
    with pytest.raises(InvalidInput):
        WebhookSender().post(f"{base}/hook", b"{}", {})


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(
    server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, connected = [], []

    def answers(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        address = "93.184.215.14" if len(asked) == 1 else "127.0.0.1"
        return [(2, 1, 6, "", (address, port))]

    def connect(place: tuple[str, int], **_: object) -> None:
        connected.append(place[0])
        raise OSError("as far as this test goes")

    monkeypatch.setattr("auditsvc.web.webhook_delivery.socket.getaddrinfo", answers)
    monkeypatch.setattr("auditsvc.web.webhook_delivery.socket.create_connection", connect)
    for _ in range(2):  # the second time the name points to this machine
        with pytest.raises(Unavailable):
            WebhookSender().post("https://rebinding.example.org/", b"{}", {})
    assert (asked, connected) == (["rebinding.example.org"] * 2, ["93.184.215.14"])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1"],
)  # fmt: skip
def test_only_global_addresses_are_public(address: str) -> None:
    assert not is_public(address)
    host = f"[{address}]" if ":" in address else address
    if "%" not in address:
        with pytest.raises(InvalidInput):
            WebhookSender().check(f"https://{host}/hook")
    assert is_public("93.184.215.14") and is_public("2606:2800:21f:cb07:6820:80da:af6b:8b2c")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "ftp://example.org",
        "https://u:p@example.org/",
        "https://",
        "https://x/\r\nHost: y",
        "x",
        "https://localhost/",
        "https://127.0.0.1/",
    ],
)
def test_an_address_that_would_give_something_away_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput):
        WebhookSender().check(url)


def test_an_admin_creates_lists_disables_and_redelivers(
    clients: Clients, site: ProjectState, recipient: Recipient
) -> None:
    admin = clients("admin", "eve")
    dispatcher = WebhookDispatcher(site.ledger, site.webhooks, site.clock, recipient)
    dispatcher.run_once()
    made = admin.post("/v1/webhooks", json={"url": URL, "events": ["decision.approved"]})
    assert made.status_code == 201
    secret, webhook = made.json()["secret"], made.json()["about"]["id"]
    assert secret not in admin.get("/v1/webhooks").text
    assert admin.post("/v1/webhooks", json={"url": "http://example.org"}).json()["code"] == "invalid-input"
    recipient.status = 410
    _something_happens(site)
    dispatcher.run_once()
    (failed,) = admin.get("/v1/webhooks/deliveries?state=failed").json()
    assert admin.post(f"/v1/webhooks/deliveries/{failed['id']}/attempts").json()["state"] == "pending"
    assert admin.delete(f"/v1/webhooks/{webhook}").json()["disabled_at"]
    assert admin.post(f"/v1/webhooks/deliveries/{failed['id']}/attempts").status_code == 404
    types = [json.loads(site.ledger.leaf(index))["type"] for index in range(site.ledger.size())]
    assert [kind for kind in types if kind.startswith("webhook")] == [
        "webhook.created",
        "webhook.redelivered",
        "webhook.disabled",
    ]
