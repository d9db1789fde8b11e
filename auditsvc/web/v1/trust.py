"""The published trust (TUF): whom to believe and what was recalled, for verifiers that come back for it.

It is made anew when it is asked for and half of its day is over, or when something was recalled since.
"""

from __future__ import annotations

from threading import Lock
from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from auditsvc.errors import NotFound
from auditsvc.provenance.formats.release_layout import read_or_none
from auditsvc.web.authentication import site_of
from auditsvc.web.record_routes import FOR_EVER
from auditsvc.web.role_routes import RoleRoute

router = APIRouter(route_class=RoleRoute, tags=["log"])

_FILE = r"^(metadata/(timestamp|[1-9][0-9]{0,8}\.(root|snapshot|targets))|targets/[0-9a-f]{64}\.[a-z-]{1,40})\.json$"
_one_at_a_time = Lock()


@router.get(
    "/v1/trust/{path:path}",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
    summary="Published trust",
)
def published_trust(
    request: Request,
    path: Annotated[str, Path(pattern=_FILE, max_length=160, description="As in TUF: `metadata/timestamp.json`.")],
) -> Response:
    """One file of the TUF repository; `auditsvc verify DIR --key release.pub --trust .../v1/trust` reads it all."""
    from auditsvc.services.key_rotation import keep_fresh, trust_folder

    ctx = site_of(request).ctx
    if path == "metadata/timestamp.json":
        with _one_at_a_time:
            keep_fresh(ctx)
    data = read_or_none(trust_folder(ctx) / path)
    if data is None:
        raise NotFound(f"there is no {path} in the published trust")
    return Response(data, media_type="application/json", headers=FOR_EVER if path[0] == "t" else {})
