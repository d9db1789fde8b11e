"""The webhook of the MLflow model registry: a version was registered, or an alias moved.

MLflow signs its webhooks, and an event without a valid signature is refused. An event only triggers a check: the ledger
says where the alias belongs, and the registry says who registered a version.
"""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import Header, Request
from pydantic import BaseModel, Field, ValidationError
from starlette.concurrency import run_in_threadpool

from auditsvc.errors import InvalidInput, Unauthenticated
from auditsvc.records import AdmitRequest, Digest, JobId, Parent, Submission, faults_of
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.state import ProjectState
from auditsvc.web.webhooks.webhook_store import verify

router = Router(tags=["webhooks"])


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
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _EVENT}}}},
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
