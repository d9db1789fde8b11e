"""Webhooks: create, list and disable them, inspect their deliveries, and send a delivery again."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query, Request
from pydantic import BaseModel, Field

from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.webhooks.webhook_store import Delivery, DeliveryState, Webhook

router = Router(tags=["webhooks"])

WebhookId = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]
DeliveryId = Annotated[str, Path(pattern="^msg_[0-9a-f]{12}_[0-9]{1,15}$")]


class NewWebhook(BaseModel):
    """The URL to send to, and the event types to send; all of them if none is named."""

    url: Annotated[str, Field(max_length=500, examples=["https://ci.example.org/auditsvc"])]
    events: Annotated[
        list[Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,40}\.[a-z][a-z-]{0,40}$")]],
        Field(max_length=50, examples=[["release.created", "release.revoked", "alias.changed-externally"]]),
    ] = []


class WebhookCreated(BaseModel):
    """A new webhook with its secret, which can't be read again."""

    secret: str
    about: Webhook


@router.get("/v1/webhooks", needs="admin", summary="List webhooks")
def list_webhooks(request: Request) -> list[Webhook]:
    """All webhooks, disabled ones too, without their secrets."""
    return list(site_of(request).webhooks.webhooks())


@router.post("/v1/webhooks", needs="admin", status_code=201, summary="Create a webhook")
def create_webhook(request: Request, new: NewWebhook) -> WebhookCreated:
    """Every matching event of the log from now on is sent to the URL, signed as "Standard Webhooks" specifies.

    A failed delivery is retried for about 18 hours; after that its state is `failed` until it is sent again.
    """
    site, person = site_of(request), request.state.caller.name
    site.sender.check(new.url)
    secret, webhook = site.webhooks.add(new.url, new.events, person)
    site.log_event("webhook.created", person, webhook=webhook.id, url=webhook.url)
    request.state.shown_once = True
    return WebhookCreated(secret=secret, about=webhook)


@router.delete("/v1/webhooks/{id}", needs="admin", summary="Disable a webhook")
def disable_webhook(request: Request, id: WebhookId) -> Webhook:
    """Nothing more is sent to it; repeating the request changes nothing."""
    site, person = site_of(request), request.state.caller.name
    webhook = site.webhooks.disable(id)
    site.log_event("webhook.disabled", person, webhook=webhook.id, url=webhook.url)
    return webhook


@router.get("/v1/webhooks/deliveries", needs="admin", summary="List deliveries")
def list_deliveries(
    request: Request,
    state: Annotated[DeliveryState | None, Query(description="`failed` lists those that were given up.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> list[Delivery]:
    """The newest deliveries first, each with its number of attempts and its last error."""
    return list(site_of(request).webhooks.deliveries(state, limit))


@router.post("/v1/webhooks/deliveries/{id}/attempts", needs="admin", status_code=202, summary="Redeliver")
def redeliver(request: Request, id: DeliveryId) -> Delivery:
    """Send a delivery again at once, with all its retries.  It keeps its id, so the recipient can recognise it."""
    site = site_of(request)
    delivery = site.webhooks.redeliver(id)
    site.log_event("webhook.redelivered", request.state.caller.name, delivery=id)
    site.trigger("webhooks")
    return delivery
