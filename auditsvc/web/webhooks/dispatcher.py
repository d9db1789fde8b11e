"""Turns log entries into webhook deliveries and sends them.

The log itself is the outbox (transactional outbox pattern): an entry exists exactly if the event happened, and a
cursor remembers how far the log was read.  So no event is lost in a crash, and events of other processes (a worker,
the command line) are sent too.  Delivery is at least once: a repeated delivery keeps its id, so that the recipient can
drop it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from auditsvc.errors import Unavailable
from auditsvc.ports import Clock
from auditsvc.records import canonical_json
from auditsvc.records.log_event import decode_event
from auditsvc.web.webhooks.webhook_store import DueDelivery, WebhookStore, key_of, sign

if TYPE_CHECKING:
    from auditsvc.ports import LoggedLedger

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
            _log.warning("gave up on delivery %s to webhook %s: %s", due.id, due.webhook, error)


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
