"""What an admin manages: tokens, webhooks and their deliveries.  Every change is an event in the log.

This is also where the MLflow model registry reports that a version was registered or an alias moved.  MLflow signs
its webhooks, and an event without a valid signature is refused. An event only triggers a check: the ledger says where
the alias belongs, and the registry says who registered a version.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import Header, Path, Query, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from auditsvc.errors import Forbidden, InvalidInput, NotFound, Unauthenticated
from auditsvc.records import AdmitRequest, Digest, JobId, Name, Parent, Submission, faults_of
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.auth.token_store import Token
from auditsvc.web.state import ProjectState
from auditsvc.web.webhook_delivery import Delivery, DeliveryState, Webhook, verify

router = Router(tags=["webhooks"])

WebhookId = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]
TokenId = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]
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
    state: Annotated[DeliveryState | None, Query(description="`failed`: those that are no longer retried.")] = None,
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


class MlflowEventResult(BaseModel):
    """How the event was handled."""

    result: Annotated[str, Field(examples=["registry check triggered"])]
    candidate: Digest | None = None
    job: JobId | None = None


_EVENT = {"type": "object", "properties": {"entity": {"type": "string"}, "action": {"type": "string"}}}


@router.post(
    "/v1/mlflow/events",
    needs="hmac",
    status_code=202,
    takes={"application/json": {"schema": _EVENT}},
    summary="Receive an MLflow webhook",
)
async def receive_mlflow_event(
    request: Request,
    signature: Annotated[str, Header(alias="x-mlflow-signature", max_length=500)] = "",
    delivery: Annotated[str, Header(alias="x-mlflow-delivery-id", max_length=200)] = "",
    timestamp: Annotated[str, Header(alias="x-mlflow-timestamp", max_length=20)] = "",
) -> MlflowEventResult:
    """Register this URL in MLflow with the secret of `AUDITSVC_MLFLOW_WEBHOOK_SECRET`.

    A new version is logged. Where `AUDITSVC_AUTO_AUDIT_POLICY` and `AUDITSVC_AUTO_AUDIT_DATASET` are set, it is also
    imported and audited against the parent of its model. Other events trigger a check of aliases and stages at once.
    """
    site, body = site_of(request), await request.body()
    if not site.mlflow_secret:
        raise Unauthenticated("MLflow webhooks are disabled; set AUDITSVC_MLFLOW_WEBHOOK_SECRET")
    verify(site.mlflow_secret.encode(), delivery, timestamp, body, signature, time.time())
    entity, action, data = _parts(body)
    if (entity, action) == ("model_version", "created"):
        return await run_in_threadpool(_registered, site, data)
    site.trigger("watching")
    return MlflowEventResult(result="registry check triggered")


def _registered(site: ProjectState, data: dict[str, Any]) -> MlflowEventResult:
    """Ignore a version that auditsvc registered itself; log another one, and audit it where that is configured."""
    model, version = str(data.get("name", ""))[:200], str(data.get("version", ""))[:20]
    known = site.ledger.find(Submission, f"{model}/{version}")
    if known or "auditsvc.digest" in dict(data.get("tags") or {}):
        return MlflowEventResult(
            result="registered by auditsvc itself", candidate=known[-1].candidate if known else None
        )
    reference = f"models:/{model}/{version}"
    known_jobs = [
        job for job in site.jobs.page(kind="admit", limit=100) if getattr(job.request, "reference", "") == reference
    ]
    if known_jobs and known_jobs[0].state not in ("failed", "cancelled"):
        return MlflowEventResult(result="audit requested already", job=known_jobs[0].id)
    site.log_event("model-version.registered", "mlflow", model=model, version=version)
    parents = site.ledger.find(Parent, model)
    if not (site.audit_policy and site.audit_data and parents):
        return MlflowEventResult(result="logged")
    try:
        order = AdmitRequest(
            parent=parents[-1].digest,
            reference=reference,
            probe=site.audit_data,
            policy=site.audit_policy,
            data=site.audit_data,
        )
    except ValidationError as error:
        raise InvalidInput("the registered version can't be audited", faults_of(error)) from error
    job = site.jobs.submit(order, "mlflow")
    site.trigger("working")
    return MlflowEventResult(result="audit requested", job=job.id)


def _parts(body: bytes) -> tuple[str, str, dict[str, Any]]:
    try:
        event = json.loads(body)
        data = event.get("data") or {}
        return str(event.get("entity", "")), str(event.get("action", "")), dict(data)
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInput(f"the body is not an MLflow webhook event: {error}") from error


token_router = Router(tags=["tokens"])


class TokenRequest(BaseModel):
    """The person or program, its role, and how long the token is valid."""

    name: Annotated[Name, Field(description="The person or program; the ledger records it as the actor.")]
    role: Literal["reader", "submitter", "auditor", "approver", "admin"]
    days: Annotated[int, Field(ge=1, le=366)] = 90
    project: Annotated[str | None, Field(max_length=40, description="Your own project by default.")] = None


class IssuedToken(BaseModel):
    """A new token. Its secret is shown only once."""

    token: str
    about: Token


class CallerView(BaseModel):
    """The authenticated caller."""

    name: str
    role: str
    project: str = ""


@token_router.get("/v1/tokens", needs="admin", summary="List tokens")
def list_tokens(request: Request) -> list[Token]:
    """All tokens, including expired and revoked ones; never their secrets."""
    return list(_visible_tokens(request))


@token_router.post("/v1/tokens", needs="admin", status_code=201, summary="Issue a token")
def create_token(request: Request, token_request: TokenRequest) -> IssuedToken:
    """A token has a name, a role and an expiry; it records you as its issuer.

    Use one name for each person. Who issued the tokens of two people, or of one of them, can't be the second person for
    the other, and neither can the two for each other: two admins, or an OIDC issuer, are needed for separate duties.
    """
    own: ProjectState = site_of(request)
    site = own if token_request.project is None else _project(request, token_request.project)
    person = request.state.caller.name
    secret, token = site.access.issue(
        token_request.name, token_request.role, token_request.days, site.project, issuer=person
    )
    site.log_event("token.issued", person, token=token.id, name=token.name, role=token.role)
    request.state.shown_once = True
    return IssuedToken(token=secret, about=token)


@token_router.delete("/v1/tokens/{id}", needs="admin", summary="Revoke a token")
def revoke_token(request: Request, id: TokenId) -> Token:
    """The token is refused from the next request on. Revoking it again changes nothing."""
    site: ProjectState = site_of(request)
    if not any(token.id == id for token in _visible_tokens(request)):
        raise NotFound(f"no token {id}")
    token = site.access.revoke(id)
    site.log_event("token.revoked", request.state.caller.name, token=token.id, name=token.name)
    return token


@token_router.get("/v1/whoami", needs="reader", summary="Get the authenticated caller")
async def get_whoami(request: Request) -> CallerView:
    """The name, role and project of your token."""
    caller = request.state.caller
    return CallerView(name=caller.name, role=caller.role, project=caller.project)


def _visible_tokens(request: Request) -> Iterator[Token]:
    """An admin of the default project sees all tokens, an admin of another project only its own."""
    site: ProjectState = site_of(request)
    return (token for token in site.access.tokens() if not site.project or token.project == site.project)


def _project(request: Request, name: str) -> ProjectState:
    site: ProjectState = site_of(request)
    if site.project not in ("", name):
        raise Forbidden(f"you are an admin of {site.project}; an admin of {name} issues tokens for that project")
    return site.of(name)
