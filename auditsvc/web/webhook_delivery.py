"""Outgoing webhooks: the store of webhooks and deliveries, their signatures, and the dispatcher that sends them.

The log is the outbox (transactional outbox pattern): an entry exists exactly if the event happened, and a cursor
remembers how far the log was read.  So a crash loses no event, and events of other processes (a worker, the command
line) are sent too.  Delivery is at least once; the ID of a delivery consists of its webhook and the index of its log
entry, so a repeated delivery keeps its ID and the recipient can drop it.  Successful deliveries are deleted after a
week; failed ones stay until they are sent.

Each delivery is signed with HMAC-SHA256 over ``id.timestamp.body`` (Standard Webhooks); MLflow signs in the same way,
under headers of its own.  Limit: secrets are stored in plain text, because signing needs them; protect the database
like the keys.

A receiver is public: its name is resolved once, each of its addresses has to be globally reachable, and the connection
goes to the address that was checked, so that a name can't point elsewhere a moment later (DNS rebinding).  Other hosts
are those that the operator names; plain HTTP goes to these alone.  A redirect is not followed, as it could lead to
where only this machine may go.

Reference: Standard Webhooks (2023), https://www.standardwebhooks.com.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import http.client
import ipaddress
import json
import logging
import secrets
import socket
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import SplitResult, urlsplit

from sqlalchemy import RowMapping, delete, insert, select, update

from auditsvc.errors import InvalidInput, NotFound, Unauthenticated, Unavailable
from auditsvc.ports import Clock
from auditsvc.records import Moment, Name, Value, canonical_json
from auditsvc.records.base import decode_event
from auditsvc.web.auth.token_store import TokenStore
from auditsvc.web.service_schema import webhook, webhook_cursor, webhook_delivery

if TYPE_CHECKING:
    from auditsvc.ports import LoggedLedger

PREFIX = "whsec_"
"""The prefix of a secret, as the libraries for Standard Webhooks expect it."""

TOLERANCE_S = 300
"""Maximum age of a signed message in seconds; an older one may be replayed."""


def new_secret() -> str:
    """A new random secret of 256 bits."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign(key: bytes, message: str, timestamp: int, body: bytes) -> str:
    """The value of the signature header for one message."""
    signed = hmac.new(key, f"{message}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def key_of(secret: str) -> bytes:
    """The HMAC key that a secret encodes."""
    return base64.b64decode(secret.removeprefix(PREFIX))


def verify(key: bytes, message: str, timestamp: str, body: bytes, signatures: str, now: float) -> None:
    """Check the signature header of a message; it may hold several signatures, separated by spaces.

    Raises:
        Unauthenticated: no signature is valid for this key and message, or the message is too old.
    """
    if not timestamp.isdecimal() or len(timestamp) > 12 or abs(now - int(timestamp)) > TOLERANCE_S:
        raise Unauthenticated(
            f"the message's timestamp is missing or more than {TOLERANCE_S} s off; check the clocks of both servers"
        )
    expected = sign(key, message, int(timestamp), body).encode()
    if not any(hmac.compare_digest(expected, one.encode()) for one in signatures.split(" ")):
        raise Unauthenticated("the message's signature is invalid; check that both sides use the same secret")


DeliveryState = Literal["pending", "delivered", "failed"]
V = TypeVar("V", bound=Value)

RETRY_DELAYS_S = (5, 60, 300, 1800, 7200, 18000, 36000)
"""Delays before each retry, in seconds; after the last retry, about 18 hours later, a delivery has failed."""

LEASE_S = 60
"""How long a claimed delivery belongs to one dispatcher, in seconds."""

RETENTION_DAYS = 7
"""How long successful deliveries are kept."""


class Webhook(Value):
    """A URL and the event types that are sent to it (all, if none is named)."""

    id: str
    url: str
    events: tuple[str, ...] = ()
    created_by: Name
    created_at: Moment
    disabled_at: Moment | None = None


class Delivery(Value):
    """The delivery of one event to one webhook."""

    id: str
    webhook: str
    type: str
    state: DeliveryState
    attempts: int
    next_attempt_at: Moment
    created_at: Moment
    last_error: str = ""


class DueDelivery(Value):
    """A delivery to send now, with all that sending needs."""

    id: str
    webhook: str
    url: str
    secret: str
    body: bytes
    attempts: int


class WebhookStore:
    """The webhooks and deliveries of one project."""

    def __init__(self, access: TokenStore, clock: Clock, project: str = "") -> None:
        self._access, self._clock, self._project = access, clock, project

    def add(self, url: str, events: Sequence[str], person: str) -> tuple[str, Webhook]:
        """Create a webhook; returns its secret, which can't be read again, and the webhook."""
        secret, now = new_secret(), self._clock.now()
        made = Webhook(id=secrets.token_hex(6), url=url, events=tuple(events), created_by=person, created_at=now)
        row = made.model_dump() | {"events": json.dumps(made.events), "created_at": made.created_at.isoformat()}
        with self._access.write_tx() as connection:
            connection.execute(insert(webhook), row | {"project": self._project, "secret": secret})
        return secret, made

    def webhooks(self) -> tuple[Webhook, ...]:
        """All webhooks, disabled ones too, oldest first."""
        query = select(webhook).where(webhook.c.project == self._project).order_by(webhook.c.created_at, webhook.c.id)
        with self._access.read_tx() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(_value(Webhook, row) for row in rows)

    def disable(self, id: str) -> Webhook:
        """Disable a webhook; its pending deliveries fail.

        Raises:
            NotFound: no webhook of this project has this id.
        """
        own = (webhook.c.id == id, webhook.c.project == self._project)
        pending = (
            webhook_delivery.c.webhook.in_(select(webhook.c.id).where(*own)),
            webhook_delivery.c.state == "pending",
        )
        with self._access.write_tx() as connection:
            enabled = update(webhook).where(*own, webhook.c.disabled_at.is_(None))
            connection.execute(enabled.values(disabled_at=self._now()))
            connection.execute(update(webhook_delivery).where(*pending).values(state="failed"))
        for known in self.webhooks():
            if known.id == id:
                return known
        raise NotFound(f"no webhook {id}")

    def cursor(self) -> int | None:
        """How many entries of the log have been turned into deliveries; None before the first run."""
        query = select(webhook_cursor.c.log_size).where(webhook_cursor.c.project == self._project)
        with self._access.read_tx() as connection:
            size = connection.execute(query).scalar()
        return None if size is None else int(size)

    def enqueue(self, log_size: int, messages: Sequence[tuple[int, str, bytes]]) -> None:
        """Create the deliveries for these log entries (index, event type, body) and move the cursor to ``log_size``."""
        now = self._now()
        new = {"state": "pending", "attempts": 0, "next_attempt_at": now, "created_at": now, "last_error": ""}
        rows = [
            new | {"id": f"msg_{target.id}_{index}", "webhook": target.id, "type": kind, "body": body}
            for index, kind, body in messages
            for target in self.webhooks()
            if target.disabled_at is None and (not target.events or kind in target.events)
        ]
        read = self._access.insert(webhook_cursor).values(project=self._project, log_size=log_size)
        forward = {"set_": {"log_size": log_size}, "where": webhook_cursor.c.log_size < log_size}
        expired = (self._clock.now() - datetime.timedelta(days=RETENTION_DAYS)).isoformat()
        with self._access.write_tx() as connection:
            if rows:
                connection.execute(self._access.insert(webhook_delivery).on_conflict_do_nothing(), rows)
            connection.execute(read.on_conflict_do_update(index_elements=["project"], **forward))
            connection.execute(
                delete(webhook_delivery).where(
                    webhook_delivery.c.state == "delivered", webhook_delivery.c.created_at < expired
                )
            )

    def claim(self, limit: int = 20) -> tuple[DueDelivery, ...]:
        """Deliveries that are due, leased to this dispatcher alone for ``LEASE_S`` seconds."""
        table, now = webhook_delivery.c, self._clock.now()
        until = (now + datetime.timedelta(seconds=LEASE_S)).isoformat()
        query = (
            select(table.id, table.webhook, webhook.c.url, webhook.c.secret, table.body, table.attempts)
            .join(webhook, webhook.c.id == table.webhook)
            .where(
                webhook.c.project == self._project, table.state == "pending", table.next_attempt_at <= now.isoformat()
            )
            .order_by(table.next_attempt_at)
            .limit(limit)
        )
        with self._access.write_tx() as connection:
            rows = connection.execute(query).mappings().all()
            if rows:
                claimed = update(webhook_delivery).where(table.id.in_([row["id"] for row in rows]))
                connection.execute(claimed.values(next_attempt_at=until))
        return tuple(DueDelivery(**row) for row in rows)

    def mark_delivered(self, due: DueDelivery) -> None:
        """Record a successful attempt."""
        self._record_attempt(due, state="delivered", last_error="")

    def mark_failed(self, due: DueDelivery, error: str, *, permanent: bool = False) -> DeliveryState:
        """Record a failed attempt: the delivery is due again later, or failed after the last retry."""
        final = permanent or due.attempts >= len(RETRY_DELAYS_S)
        delay = 0 if final else RETRY_DELAYS_S[due.attempts]
        again = (self._clock.now() + datetime.timedelta(seconds=delay)).isoformat()
        state: DeliveryState = "failed" if final else "pending"
        self._record_attempt(due, state=state, next_attempt_at=again, last_error=error[:300])
        return state

    def _record_attempt(self, due: DueDelivery, **values: str) -> None:
        changed = update(webhook_delivery).where(webhook_delivery.c.id == due.id)
        with self._access.write_tx() as connection:
            connection.execute(changed.values(attempts=webhook_delivery.c.attempts + 1, **values))

    def deliveries(self, state: DeliveryState | None = None, limit: int = 100) -> tuple[Delivery, ...]:
        """The newest deliveries, in one state or in any."""
        query = (
            select(webhook_delivery)
            .join(webhook, webhook.c.id == webhook_delivery.c.webhook)
            .where(webhook.c.project == self._project, *([webhook_delivery.c.state == state] if state else []))
            .order_by(webhook_delivery.c.created_at.desc(), webhook_delivery.c.id.desc())
            .limit(limit)
        )
        with self._access.read_tx() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(_value(Delivery, row) for row in rows)

    def redeliver(self, id: str) -> Delivery:
        """Send a delivery again, whatever its state, with all its retries.

        Raises:
            NotFound: no delivery has this id, or its webhook is disabled.
        """
        enabled = select(webhook.c.id).where(webhook.c.project == self._project, webhook.c.disabled_at.is_(None))
        changed = update(webhook_delivery).where(webhook_delivery.c.id == id, webhook_delivery.c.webhook.in_(enabled))
        values = {"state": "pending", "attempts": 0, "next_attempt_at": self._now()}
        with self._access.write_tx() as connection:
            found = connection.execute(changed.values(**values)).rowcount
            row = connection.execute(select(webhook_delivery).where(webhook_delivery.c.id == id)).mappings().first()
        if not found or row is None:
            raise NotFound(f"no delivery {id[:100]} to an enabled webhook")
        return _value(Delivery, row)

    def _now(self) -> str:
        return self._clock.now().isoformat()


def _value(kind: type[V], row: RowMapping) -> V:
    """A row as a value of this type, without the columns that are not its fields (the secret, the body)."""
    fields = {name: row[name] for name in kind.model_fields}
    return kind(**fields | ({"events": tuple(json.loads(row["events"]))} if "events" in fields else {}))


BATCH_SIZE = 500
"""Log entries that one run reads."""

GONE = 410
"""The HTTP status of a recipient that wants no more deliveries."""

Post = Callable[[str, bytes, Mapping[str, str]], int]
"""Sends a body with headers to a URL without following redirects; returns the status.  Raises ``Unavailable``."""

_log = logging.getLogger("auditsvc.webhooks")


class WebhookDispatcher:
    """Runs once per call; dispatchers of several processes share the work through the store."""

    def __init__(self, ledger: LoggedLedger, webhooks: WebhookStore, clock: Clock, post: Post) -> None:
        self._ledger, self._webhooks, self._clock, self._post = ledger, webhooks, clock, post

    def run_once(self) -> int:
        """Read new log entries and send the deliveries that are due; returns the number of attempts.

        Raises:
            Unavailable: the log or the webhook store can't be read.
        """
        self._read_log()
        due = self._webhooks.claim()
        if due:
            with ThreadPoolExecutor(min(4, len(due))) as pool:
                list(pool.map(self._send, due))
        return len(due)

    def _read_log(self) -> None:
        size, cursor = self._ledger.size(), self._webhooks.cursor()
        if cursor is None:
            self._webhooks.enqueue(size, ())  # events before the first run are not sent
        elif cursor < size:
            end = min(size, cursor + BATCH_SIZE)
            found = [_message(index, self._ledger.leaf(index)) for index in range(cursor, end)]
            self._webhooks.enqueue(end, [message for message in found if message is not None])

    def _send(self, due: DueDelivery) -> None:
        now = int(self._clock.now().timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": due.id,
            "webhook-timestamp": str(now),
            "webhook-signature": sign(key_of(due.secret), due.id, now, due.body),
        }
        try:
            status = self._post(due.url, due.body, headers)
        except Unavailable as error:
            self._fail(due, str(error), permanent=False)
            return
        if 200 <= status < 300:
            self._webhooks.mark_delivered(due)
        else:
            self._fail(due, f"the recipient answered with status {status}", permanent=status == GONE)

    def _fail(self, due: DueDelivery, error: str, *, permanent: bool) -> None:
        if self._webhooks.mark_failed(due, error, permanent=permanent) == "failed":
            _log.warning("stopped retrying delivery %s to webhook %s: %s", due.id, due.webhook, error)


def _message(index: int, leaf: bytes) -> tuple[int, str, bytes] | None:
    """A log entry as index, event type and message body; None for an entry that is no event."""
    event = decode_event(leaf)
    if event is None:
        return None
    envelope = ("kind", "apiVersion", "type", "at")
    data: dict[str, Any] = {name: value for name, value in event.items() if name not in envelope}
    data["entry"] = index
    if str(event.get("object", "")).startswith("sha256:"):
        data["href"] = f"/v1/provenance/{event['object']}"
    return index, event["type"], canonical_json({"type": event["type"], "timestamp": event["at"], "data": data})


TIMEOUT_S = 10.0
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class WebhookSender:
    """Sends to public addresses, and to the hosts that are ``allowed``."""

    allowed: frozenset[str] = frozenset()

    def check(self, url: str) -> SplitResult:
        """The parts of an address that webhooks may be sent to; names are resolved when a webhook is sent.

        Raises:
            InvalidInput: not https, not a public address, or with a name and password in it.
        """
        try:
            parts = urlsplit(url)
            _ = parts.port
        except ValueError as error:
            raise InvalidInput(f"not an address: {error}") from error
        host = parts.hostname or ""
        if parts.username or parts.password:
            raise InvalidInput("leave name and password out of the address; receivers check the signature")
        if not host or parts.scheme not in ("https", "http") or not url.isascii() or any(c.isspace() for c in url):
            raise InvalidInput("a receiver's address looks like https://example.org/auditsvc")
        if host not in self.allowed:
            if parts.scheme == "http":
                raise InvalidInput("plain http goes to hosts of AUDITSVC_WEBHOOK_HOSTS only; take https")
            if host == "localhost" or not is_public(host, of_name=True):
                raise InvalidInput(f"{host} is not a public address; an admin can name it in AUDITSVC_WEBHOOK_HOSTS")
        return parts

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer.

        Raises:
            Unavailable: no response, none before the timeout, or a name with an address that is not public.
        """
        parts = self.check(url)
        host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S)
        try:
            connection.sock = self._connected(host, port, parts.scheme)
            connection.request("POST", target, body, {**headers, "user-agent": "auditsvc"})
            return connection.getresponse().status
        except (OSError, UnicodeError, http.client.HTTPException) as error:
            raise Unavailable(f"{parts.scheme}://{parts.netloc} does not answer: {error}") from error
        finally:
            connection.close()

    def _connected(self, host: str, port: int, scheme: str) -> socket.socket:
        found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        if host not in self.allowed and not all(is_public(address) for address in found):
            raise Unavailable(f"{host} has an address that is not public; see AUDITSVC_WEBHOOK_HOSTS")
        plain = socket.create_connection((found[0], port), timeout=TIMEOUT_S)
        return plain if scheme == "http" else ssl.create_default_context().wrap_socket(plain, server_hostname=host)


def is_public(host: str, *, of_name: bool = False) -> bool:
    """Whether an address is globally reachable, also one of IPv4 inside one of IPv6; ``of_name`` for a name."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return of_name
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo or (inner is not None and not inner.is_global):
            return False
    return address.is_global and not address.is_multicast
