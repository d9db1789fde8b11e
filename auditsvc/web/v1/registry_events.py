"""What MLflow tells us: a version was registered, an alias was moved.

MLflow signs its webhooks; what is not signed with our secret is refused.  An event is only a hint to look: where the
alias belongs is asked of the ledger, and who registered what of the registry itself.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from auditsvc.errors import InvalidInput, Unauthenticated
from auditsvc.records import AdmitRequest, Digest, JobId, Parent, Submission, faults_of
from auditsvc.web.authentication import site_of
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState
from auditsvc.web.webhooks.webhook_signing import verify

router = APIRouter(route_class=RoleRoute, tags=["webhooks"])


class MlflowEventResult(BaseModel):
    """What was made of an event."""

    done: Annotated[str, Field(examples=["looking at the registry"])]
    candidate: Digest | None = None
    job: JobId | None = None


_EVENT = {"type": "object", "properties": {"entity": {"type": "string"}, "action": {"type": "string"}}}


@router.post(
    "/v1/mlflow/events",
    status_code=202,
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _EVENT}}}},
    summary="MLflow's webhook",
)
async def receive_mlflow_event(
    request: Request,
    signature: Annotated[str, Header(alias="x-mlflow-signature", max_length=500)] = "",
    delivery: Annotated[str, Header(alias="x-mlflow-delivery-id", max_length=200)] = "",
    timestamp: Annotated[str, Header(alias="x-mlflow-timestamp", max_length=20)] = "",
) -> MlflowEventResult:
    """Give MLflow's registry this address and the secret of `AUDITSVC_MLFLOW_WEBHOOK_SECRET`.

    A version that was registered is logged, and admitted and audited beside the parent of its model where
    `AUDITSVC_AUTO_AUDIT_POLICY` and `AUDITSVC_AUTO_AUDIT_DATASET` say how.  Aliases and stages are compared now
    instead of in the next round.
    """
    site, body = site_of(request), await request.body()
    if not site.mlflow_secret:
        raise Unauthenticated("no webhooks are taken from MLflow here; set AUDITSVC_MLFLOW_WEBHOOK_SECRET")
    verify(site.mlflow_secret.encode(), delivery, timestamp, body, signature, time.time())
    entity, action, data = _parts(body)
    if (entity, action) == ("model_version", "created"):
        return await run_in_threadpool(_registered, site, data)
    site.trigger("watching")
    return MlflowEventResult(done="looking at the registry")


def _registered(site: ProjectState, data: dict[str, Any]) -> MlflowEventResult:
    """A version that we registered ourselves is left alone; another one is logged, and audited where that is set."""
    model, version = str(data.get("name", ""))[:200], str(data.get("version", ""))[:20]
    known = site.ledger.find(Submission, f"{model}/{version}")
    if known or "auditsvc.digest" in dict(data.get("tags") or {}):
        return MlflowEventResult(done="registered by auditsvc itself", candidate=known[-1].candidate if known else None)
    reference = f"models:/{model}/{version}"
    asked = [
        job for job in site.jobs.page(kind="admit", limit=100) if getattr(job.request, "reference", "") == reference
    ]
    if asked and asked[0].state not in ("failed", "cancelled"):
        return MlflowEventResult(done="asked for already", job=asked[0].id)
    site.log_event("model-version.registered", "mlflow", model=model, version=version)
    parents = site.ledger.find(Parent, model)
    if not (site.audit_policy and site.audit_data and parents):
        return MlflowEventResult(done="logged")
    try:
        order = AdmitRequest(
            parent=parents[-1].digest,
            reference=reference,
            probe=site.audit_data,
            policy=site.audit_policy,
            data=site.audit_data,
        )
    except ValidationError as error:
        raise InvalidInput("this version can't be audited", faults_of(error)) from error
    job = site.jobs.submit(order, "mlflow")
    site.trigger("working")
    return MlflowEventResult(done="audit asked for", job=job.id)


def _parts(body: bytes) -> tuple[str, str, dict[str, Any]]:
    try:
        event = json.loads(body)
        data = event.get("data") or {}
        return str(event.get("entity", "")), str(event.get("action", "")), dict(data)
    except (ValueError, AttributeError, TypeError) as error:
        raise InvalidInput(f"this is no event of MLflow: {error}") from error
