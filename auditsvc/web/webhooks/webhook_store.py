"""Who wants to be told what, and every delivery with its fate.

A delivery is named by its receiver and the entry of the log that it tells of, so that the same event is never told
twice under two names.  What was delivered is forgotten after a week; what was given up stays until it is sent again.

Limit: the secrets lie in the database as they are, because signing needs them; guard it as you guard the keys.
"""

from __future__ import annotations

import datetime
import json
import secrets
from collections.abc import Sequence
from typing import Literal, TypeVar

from sqlalchemy import RowMapping, delete, insert, select, update

from auditsvc.errors import NotFound
from auditsvc.ports import Clock
from auditsvc.records import Moment, Name, Value
from auditsvc.web.auth.token_store import TokenStore
from auditsvc.web.service_schema import delivery, hook, webhook_cursor
from auditsvc.web.webhooks.webhook_signing import new_secret

State = Literal["waiting", "delivered", "dead"]
V = TypeVar("V", bound=Value)

PAUSES_S = (5, 60, 300, 1800, 7200, 18000, 36000)
"""Waits before another try, in seconds; after the last one, some 18 hours in, a delivery is dead."""

LEASE_S = 60
"""How long one courier has a delivery to itself."""

KEPT_DAYS = 7


class Webhook(Value):
    """A receiver: where it is, which events it wants (all, if none is named), who asked for it."""

    id: str
    url: str
    events: tuple[str, ...] = ()
    person: Name
    at: Moment
    ended: Moment | None = None


class Delivery(Value):
    """One event on its way to one receiver."""

    id: str
    hook: str
    type: str
    state: State
    tries: int
    due: Moment
    at: Moment
    trouble: str = ""


class DueDelivery(Value):
    """A delivery that is to be sent now, with all that sending needs."""

    id: str
    hook: str
    url: str
    secret: str
    body: bytes
    tries: int


class WebhookStore:
    """The receivers and deliveries of one project."""

    def __init__(self, access: TokenStore, clock: Clock, project: str = "") -> None:
        self._access, self._clock, self._project = access, clock, project

    def add(self, url: str, events: Sequence[str], person: str) -> tuple[str, Webhook]:
        """A new receiver and its secret, which is shown now and never again."""
        secret = new_secret()
        made = Webhook(id=secrets.token_hex(6), url=url, events=tuple(events), person=person, at=self._clock.now())
        row = made.model_dump() | {"events": json.dumps(made.events), "at": made.at.isoformat()}
        with self._access.changing() as connection:
            connection.execute(insert(hook), row | {"project": self._project, "secret": secret})
        return secret, made

    def hooks(self) -> tuple[Webhook, ...]:
        """All receivers, oldest first, ended ones too."""
        query = select(hook).where(hook.c.project == self._project).order_by(hook.c.at, hook.c.id)
        with self._access.looking() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(_of(Webhook, row) for row in rows)

    def end(self, receiver: str) -> Webhook:
        """Tell this receiver nothing more; what still waits for it is dead.

        Raises:
            NotFound: there is no such receiver.
        """
        own = (hook.c.id == receiver, hook.c.project == self._project)
        waits = (delivery.c.hook.in_(select(hook.c.id).where(*own)), delivery.c.state == "waiting")
        with self._access.changing() as connection:
            ended = update(hook).where(*own, hook.c.ended.is_(None)).values(ended=self._now())
            connection.execute(ended)
            connection.execute(update(delivery).where(*waits).values(state="dead"))
        for known in self.hooks():
            if known.id == receiver:
                return known
        raise NotFound(f"no receiver {receiver}")

    def cursor(self) -> int | None:
        """How many entries of the log were turned into deliveries; None before the first time."""
        with self._access.looking() as connection:
            size = connection.execute(
                select(webhook_cursor.c.size).where(webhook_cursor.c.project == self._project)
            ).scalar()
        return None if size is None else int(size)

    def write(self, size: int, events: Sequence[tuple[int, str, bytes]]) -> None:
        """Turn these entries (number, type, body) into deliveries, and remember that the log was read up to here."""
        now = self._now()
        new = {"state": "waiting", "tries": 0, "due": now, "at": now, "trouble": ""}
        rows = [
            new | {"id": f"msg_{receiver.id}_{number}", "hook": receiver.id, "type": kind, "body": body}
            for number, kind, body in events
            for receiver in self.hooks()
            if receiver.ended is None and (not receiver.events or kind in receiver.events)
        ]
        read = self._access.insert(webhook_cursor).values(project=self._project, size=size)
        further = {"set_": {"size": size}, "where": webhook_cursor.c.size < size}
        old = (self._clock.now() - datetime.timedelta(days=KEPT_DAYS)).isoformat()
        with self._access.changing() as connection:
            if rows:
                connection.execute(self._access.insert(delivery).on_conflict_do_nothing(), rows)
            connection.execute(read.on_conflict_do_update(index_elements=["project"], **further))
            connection.execute(delete(delivery).where(delivery.c.state == "delivered", delivery.c.at < old))

    def claim(self, most: int = 20) -> tuple[DueDelivery, ...]:
        """Deliveries that are due, for this courier alone until the lease is over."""
        now = self._clock.now()
        until = (now + datetime.timedelta(seconds=LEASE_S)).isoformat()
        query = (
            select(delivery.c.id, delivery.c.hook, hook.c.url, hook.c.secret, delivery.c.body, delivery.c.tries)
            .join(hook, hook.c.id == delivery.c.hook)
            .where(hook.c.project == self._project, delivery.c.state == "waiting", delivery.c.due <= now.isoformat())
            .order_by(delivery.c.due)
            .limit(most)
        )
        with self._access.changing() as connection:
            rows = connection.execute(query).mappings().all()
            if rows:
                taken = update(delivery).where(delivery.c.id.in_([row["id"] for row in rows]))
                connection.execute(taken.values(due=until))
        return tuple(DueDelivery(**row) for row in rows)

    def done(self, due: DueDelivery) -> None:
        """It was delivered."""
        self._change(due, state="delivered", trouble="")

    def failed(self, due: DueDelivery, trouble: str, *, for_good: bool = False) -> State:
        """It was not: it is due again later, or dead after the last try."""
        dead = for_good or due.tries >= len(PAUSES_S)
        pause = 0 if dead else PAUSES_S[due.tries]
        again = (self._clock.now() + datetime.timedelta(seconds=pause)).isoformat()
        state: State = "dead" if dead else "waiting"
        self._change(due, state=state, due=again, trouble=trouble[:300])
        return state

    def _change(self, sent: DueDelivery, **values: str) -> None:
        changed = update(delivery).where(delivery.c.id == sent.id)
        with self._access.changing() as connection:
            connection.execute(changed.values(tries=delivery.c.tries + 1, **values))

    def deliveries(self, state: State | None = None, most: int = 100) -> tuple[Delivery, ...]:
        """The newest deliveries, of one state or of all."""
        query = (
            select(delivery)
            .join(hook, hook.c.id == delivery.c.hook)
            .where(hook.c.project == self._project, *([delivery.c.state == state] if state else []))
            .order_by(delivery.c.at.desc(), delivery.c.id.desc())
            .limit(most)
        )
        with self._access.looking() as connection:
            rows = connection.execute(query).mappings().all()
        return tuple(_of(Delivery, row) for row in rows)

    def resend(self, sent: str) -> Delivery:
        """Send it again, from the first try on; a dead one comes to life, a delivered one is sent once more.

        Raises:
            NotFound: there is no such delivery, or its receiver has ended.
        """
        there = select(hook.c.id).where(hook.c.project == self._project, hook.c.ended.is_(None))
        changed = update(delivery).where(delivery.c.id == sent, delivery.c.hook.in_(there))
        with self._access.changing() as connection:
            found = connection.execute(changed.values(state="waiting", tries=0, due=self._now())).rowcount
            row = connection.execute(select(delivery).where(delivery.c.id == sent)).mappings().first()
        if not found or row is None:
            raise NotFound(f"no delivery {sent[:100]} to a receiver that is still there")
        return _of(Delivery, row)

    def _now(self) -> str:
        return self._clock.now().isoformat()


def _of(kind: type[V], row: RowMapping) -> V:
    """A row as what it is; the columns that are nobody's business are left out."""
    fields = {name: row[name] for name in kind.model_fields}
    return kind(**fields | ({"events": tuple(json.loads(row["events"]))} if "events" in fields else {}))
