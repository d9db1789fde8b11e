"""The public keys of this installation."""

from __future__ import annotations

from typing import get_args

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from auditsvc.ports import KeyRole
from auditsvc.services.signing_context import trust_of
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.state import ProjectState

router = Router(tags=["log"])


class PublicKey(BaseModel):
    """One key: its role, and the public key as PEM."""

    role: KeyRole
    pem: str


@router.get("/v1/keys", needs="reader", summary="List public keys")
def list_keys(request: Request) -> list[PublicKey]:
    """One key for each role. Before you trust them, compare them with a copy from another channel."""
    site: ProjectState = site_of(request)
    roles: tuple[KeyRole, ...] = get_args(KeyRole)
    return [PublicKey(role=role, pem=site.keys.signer(role).public_pem.decode()) for role in roles]


@router.get(
    "/v1/keys/trust-policy",
    needs="reader",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
    summary="Get the trust policy",
)
def get_trust_policy(request: Request) -> Response:
    """All keys with what each may sign, in the format of `auditsvc verify --key`."""
    return Response(trust_of(site_of(request).ctx).to_json(), media_type="application/json")
