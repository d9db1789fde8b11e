"""Provenance by digest: of a file, a model, a decision, anything that has a name here."""

from __future__ import annotations

from fastapi import APIRouter, Request
from pydantic import BaseModel

from auditsvc.api.identity import site_of
from auditsvc.api.origins import Origin, origins_of
from auditsvc.api.reading import ADigest
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.api.verify import verified
from auditsvc.errors import NotFound
from auditsvc.records import Digest, Release, Verification, VerificationVerdict

router = APIRouter(route_class=RoleRoute, tags=["releases"])


class Provenance(BaseModel):
    """Everything that is known of a digest; of what was released also whether it verifies now, step by step."""

    digest: Digest
    origins: list[Origin]
    verdict: VerificationVerdict | None = None
    verification: Verification | None = None


@router.get("/v1/provenance/{digest}", summary="Where does this come from?")
def provenance(request: Request, digest: ADigest) -> Provenance:
    """Every record that has this digest or speaks of it, in the order of the line: from parent to revocation.

    The newest release among them is verified in this store, by the same steps as `auditsvc verify` takes.
    """
    site: Site = site_of(request)
    found = list(origins_of(site.ledger, digest))
    if not found:
        raise NotFound(f"nothing here is known of {digest}")
    released = [item.digest for item in found if item.kind == Release.kind]
    checked = verified(site, site.ledger.get(Release, released[-1])) if released else None
    return Provenance(digest=digest, origins=found, verdict=checked and checked.verdict, verification=checked)
