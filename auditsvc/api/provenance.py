"""Provenance by digest: of a file, a model, a decision, anything that has a name here."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from auditsvc.api.identity import site_of
from auditsvc.api.origins import Origin, origins_of
from auditsvc.api.reading import ADigest
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.errors import NotFound
from auditsvc.records import Digest

router = APIRouter(route_class=RoleRoute, tags=["releases"])


class Provenance(BaseModel):
    """Everything that is known of a digest."""

    digest: Digest
    origins: list[Origin]


@router.get("/v1/provenance/{digest}", summary="Where does this come from?")
def provenance(request: Request, digest: ADigest) -> Provenance:
    """Every record that has this digest or speaks of it, in the order of the line: from parent to revocation."""
    site: Site = site_of(request)
    found = list(origins_of(site.ledger, digest))
    if not found:
        raise NotFound(f"nothing here is known of {digest}")
    return Provenance(digest=digest, origins=found)
