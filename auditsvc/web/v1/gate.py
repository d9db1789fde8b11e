"""The gate query: one fast GET for a pipeline, before it uses a model."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from starlette.responses import Response

from auditsvc.records import Name
from auditsvc.services.gate_query import GateAnswer
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import is_current

router = Router(tags=["gate"])

Version = Annotated[str, Query(pattern=r"^[1-9][0-9]*$", max_length=20, description="The version in the registry.")]
Policy = Annotated[
    str | None,
    Query(min_length=1, max_length=160, description="Only decisions under this policy: its name or digest."),
]

_EXAMPLE = {
    "answer": "approved",
    "model": "face-gender",
    "version": "2",
    "candidate": "sha256:6b1f0a4c55f1c0e0d3a3d1a05b44d1e0a1b5bbd1f3b7ad1c1f2e7c9d8e6f5a41",
    "policy": "standard-1",
    "decision": "sha256:0d5b2b1a7a92cc0bb7d8d41f0a9bb3f9d1c9a7f4b4a5c0a6e3d2f1b09c8d7e65",
    "decided_at": "2026-11-22T16:05:00Z",
    "release": "sha256:9f3c2ac5e64d5b18e4a0c5f98b2c3e1d7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d",
    "reasons": [],
}


@router.get(
    "/v1/gate",
    needs="reader",
    response_model=GateAnswer,
    summary="Query the gate",
    responses={200: {"content": {"application/json": {"example": _EXAMPLE}}}, 304: {"description": "Not modified."}},
)
async def query_gate(
    request: Request,
    model: Annotated[Name, Query(description="The model's name in the registry.")],
    version: Version,
    policy: Policy = None,
) -> Response:
    """May this version be used? `approved` only if it was approved, released and not revoked; otherwise every reason.

    Without `policy` the newest decision counts. Send the answer's `ETag` as `If-None-Match` to ask whether it changed.

    `503` with the code `log-mismatch` while the ledger does not follow from its transparency log.
    """
    site = site_of(request)
    answered = await site.answers.ask(model, version, policy)
    site.require_intact()
    headers = {"etag": answered.etag}
    if is_current(request, answered.etag):
        return Response(None, 304, headers)
    return Response(answered.body, 200, headers, "application/json")
