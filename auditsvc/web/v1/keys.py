"""The public keys of this installation: whom to trust for what."""

from __future__ import annotations

from typing import get_args

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.responses import Response

from auditsvc.ports import KeyRole
from auditsvc.services.signing_context import trust_of
from auditsvc.web.authentication import site_of
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

router = APIRouter(route_class=RoleRoute, tags=["log"])


class PublicKey(BaseModel):
    """One key: its role, and its public half as PEM."""

    role: KeyRole
    pem: str


@router.get("/v1/keys", summary="Public keys")
def public_keys(request: Request) -> list[PublicKey]:
    """One key for each role.  To trust them, compare them with what you got on another way."""
    site: ProjectState = site_of(request)
    roles: tuple[KeyRole, ...] = get_args(KeyRole)
    return [PublicKey(role=role, pem=site.keys.signer(role).public_pem.decode()) for role in roles]


@router.get(
    "/v1/keys/trust-policy",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
    summary="Trust policy",
)
def trust_policy(request: Request) -> Response:
    """All keys with what each may sign, as `auditsvc verify --key` takes it."""
    return Response(trust_of(site_of(request).ctx).to_json(), media_type="application/json")
