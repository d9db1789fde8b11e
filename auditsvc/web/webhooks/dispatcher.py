"""Reads the log, writes deliveries, sends them.

The log itself is the outbox: what is in it happened, and the book remembers how far it was read.  So nothing is lost
whoever is killed when, and what another process did (a worker, the command line) is told as well.  A receiver may
see an event twice, under the same id.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from auditsvc.errors import Unavailable
from auditsvc.ports import Clock
from auditsvc.records import canonical_json
from auditsvc.web.webhooks.webhook_signing import key_of, signature
from auditsvc.web.webhooks.webhook_store import DueDelivery, WebhookStore

if TYPE_CHECKING:
    from auditsvc.ports import LoggedLedger

READ = 500
"""Entries that are read in one round."""

GONE = 410
"""The receiver says that it will never take anything again."""

Post = Callable[[str, bytes, Mapping[str, str]], int]
"""Sends a body with headers to an address, follows nothing, and gives the status.  Raises ``Unavailable``."""

_log = logging.getLogger("auditsvc.hooks")


class WebhookDispatcher:
    """One round at a time; several couriers of the same book don't get in each other's way."""

    def __init__(self, ledger: LoggedLedger, book: WebhookStore, clock: Clock, post: Post) -> None:
        self._ledger, self._book, self._clock, self._post = ledger, book, clock, post

    def round(self) -> int:
        """Read what is new, send what is due; how many were sent, well or not.

        Raises:
            Unavailable: the log or the book can't be read.
        """
        self._read()
        due = self._book.claim()
        if due:
            with ThreadPoolExecutor(min(4, len(due))) as pool:
                list(pool.map(self._send, due))
        return len(due)

    def _read(self) -> None:
        size, told = self._ledger.size(), self._book.cursor()
        if told is None:
            self._book.write(size, ())  # what happened before anybody asked is not told
        elif told < size:
            until = min(size, told + READ)
            found = [_event(number, self._ledger.leaf(number)) for number in range(told, until)]
            self._book.write(until, [event for event in found if event is not None])

    def _send(self, due: DueDelivery) -> None:
        now = int(self._clock.now().timestamp())
        headers = {
            "content-type": "application/json",
            "webhook-id": due.id,
            "webhook-timestamp": str(now),
            "webhook-signature": signature(key_of(due.secret), due.id, now, due.body),
        }
        try:
            status = self._post(due.url, due.body, headers)
        except Unavailable as error:
            self._fail(due, str(error), for_good=False)
            return
        if 200 <= status < 300:
            self._book.done(due)
        else:
            self._fail(due, f"the receiver answered {status}", for_good=status == GONE)

    def _fail(self, due: DueDelivery, trouble: str, *, for_good: bool) -> None:
        if self._book.failed(due, trouble, for_good=for_good) == "dead":
            _log.warning("gave up telling %s of %s: %s", due.hook, due.id, trouble)


def _event(number: int, leaf: bytes) -> tuple[int, str, bytes] | None:
    """An entry as a message; None for one that is no event (a signature that was logged)."""
    try:
        event = json.loads(leaf)
    except ValueError:
        return None
    if not isinstance(event, dict) or event.get("kind") != "auditsvc.event":
        return None
    left_out = ("kind", "apiVersion", "type", "at")
    data: dict[str, Any] = {name: value for name, value in event.items() if name not in left_out}
    data["entry"] = number
    if str(event.get("object", "")).startswith("sha256:"):
        data["href"] = f"/v1/provenance/{event['object']}"
    return number, event["type"], canonical_json({"type": event["type"], "timestamp": event["at"], "data": data})
