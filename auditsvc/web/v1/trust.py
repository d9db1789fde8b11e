"""The public keys of this installation, and the TUF repository for verifiers that update themselves.

The repository (trusted keys and revocations) is published again on request once half of its validity is over, or after
a revocation.
"""

from __future__ import annotations

from threading import Lock
from typing import Annotated, get_args

from fastapi import Path, Request
from pydantic import BaseModel
from starlette.responses import Response

from auditsvc.errors import NotFound
from auditsvc.ports import KeyRole
from auditsvc.provenance.formats.release_layout import read_or_none
from auditsvc.services.signing_context import trust_of
from auditsvc.web.auth.authentication import Router, site_of
from auditsvc.web.record_routes import IMMUTABLE
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


_FILE = r"^(metadata/(timestamp|[1-9][0-9]{0,8}\.(root|snapshot|targets))|targets/[0-9a-f]{64}\.[a-z-]{1,40})\.json$"
_publish_lock = Lock()


@router.get(
    "/v1/trust/{path:path}",
    needs="reader",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
    summary="Get a TUF file",
)
def get_trust_file(
    request: Request,
    path: Annotated[str, Path(pattern=_FILE, max_length=160, description="As in TUF: `metadata/timestamp.json`.")],
) -> Response:
    """One file of the TUF repository; `auditsvc verify DIR --key release.pub --trust .../v1/trust` reads it."""
    from auditsvc.services.key_rotation import keep_fresh, trust_folder

    ctx = site_of(request).ctx
    if path == "metadata/timestamp.json":
        with _publish_lock:
            keep_fresh(ctx)
    data = read_or_none(trust_folder(ctx) / path)
    if data is None:
        raise NotFound(f"the TUF repository has no file {path}")
    return Response(data, media_type="application/json", headers=IMMUTABLE if path[0] == "t" else {})
