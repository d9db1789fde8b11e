"""Receivers: who is told of events by a signed webhook, what became of each delivery, and sending one again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from auditsvc.adapters.webhook_http import checked_address
from auditsvc.web.authentication import site_of
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.webhooks.webhook_store import Delivery, State, Webhook

router = APIRouter(route_class=RoleRoute, tags=["receivers"])

HookId = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]
DeliveryId = Annotated[str, Path(pattern="^msg_[0-9a-f]{12}_[0-9]{1,15}$")]


class Wanted(BaseModel):
    """Where to send, and which events; all of them if none is named."""

    url: Annotated[str, Field(max_length=500, examples=["https://ci.example.org/auditsvc"])]
    events: Annotated[
        list[Annotated[str, Field(pattern="^[a-z][a-z-]{0,40}$")]],
        Field(max_length=30, examples=[["decision", "release", "revocation", "moved-past-auditsvc"]]),
    ] = []


class Added(BaseModel):
    """A new receiver; its secret is shown here and never again."""

    secret: str
    about: Webhook


@router.get("/v1/receivers", summary="Receivers")
def receivers(request: Request) -> list[Webhook]:
    """All receivers, ended ones too; never their secrets."""
    return list(site_of(request).book.hooks())


@router.post("/v1/receivers", status_code=201, summary="Add a receiver")
def add(request: Request, wanted: Wanted) -> Added:
    """From now on, every such event of the log is sent there, signed as "Standard Webhooks" says.

    A delivery that fails is sent again over some 18 hours, then it is dead, and waits to be sent again by hand.
    """
    checked_address(wanted.url)
    site, person = site_of(request), request.state.caller.name
    secret, hook = site.book.add(wanted.url, wanted.events, person)
    site.note("receiver-added", person, receiver=hook.id, url=hook.url)
    return Added(secret=secret, about=hook)


@router.delete("/v1/receivers/{id}", summary="End a receiver")
def end(request: Request, id: HookId) -> Webhook:
    """It is told nothing more; doing it again changes nothing."""
    site, person = site_of(request), request.state.caller.name
    hook = site.book.end(id)
    site.note("receiver-ended", person, receiver=hook.id, url=hook.url)
    return hook


@router.get("/v1/deliveries", summary="Deliveries, and those that were given up")
def deliveries(
    request: Request,
    state: Annotated[State | None, Query(description="`dead` lists those that nobody took.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[Delivery]:
    """The newest first, with the number of tries and the last trouble."""
    return list(site_of(request).book.deliveries(state, limit))


@router.post("/v1/deliveries/{id}/send", status_code=202, summary="Send a delivery again")
def send(request: Request, id: DeliveryId) -> Delivery:
    """It is due at once, with all its tries before it; its id stays, so that receivers know it."""
    site = site_of(request)
    delivery = site.book.resend(id)
    site.note("delivery-sent-again", request.state.caller.name, delivery=id)
    site.wake("telling")
    return delivery
