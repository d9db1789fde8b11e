"""Releases: the record, the bundle that anyone can verify, the report, and requests to revoke it or roll back to it.

The rules are in ``auditsvc.services.revocation``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import Path as InPath
from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from auditsvc.errors import NotFound
from auditsvc.records import (
    AliasMove,
    Release,
    Revocation,
    RevocationRequest,
    Rollback,
    RollbackRequest,
    Submission,
    Text,
)
from auditsvc.services.decisions import report_folder
from auditsvc.services.release import release_folder
from auditsvc.services.revocation import (
    pending_revocation,
    pending_rollback,
    request_or_confirm_revocation,
    request_or_confirm_rollback,
    requesters,
)
from auditsvc.web.auth.authentication import BINARY, Router, require_independent, site_of
from auditsvc.web.record_routes import IMMUTABLE, ADigest, created, record_router
from auditsvc.web.state import ProjectState
from auditsvc.web.v1.uploads import files_of, tar_of

router = Router(tags=["releases"])

record_router(router, Release, "releases", about="`model/version`, or the digest of a candidate, a decision or a file.")
record_router(router, Revocation, "revocations", about="A release's digest.")
record_router(router, Rollback, "rollbacks", about="A model's name, or a release.")
record_router(
    router, AliasMove, "alias_moves", about="A model's name, or the digest of a release, decision or revocation."
)

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; sandbox"
"""A report is one self-contained file; the policy allows no scripts and no requests."""


class ReleaseActionRequest(BaseModel):
    """Why; the person who confirms can leave it out."""

    reason: Text | None = None


class RevocationStatus(BaseModel):
    """A pending revocation request, and the revocation once another person confirmed it."""

    pending: RevocationRequest | None = None
    revocations: list[Revocation] = []


def _folder(site: ProjectState, digest: str) -> Path:
    release = site.ledger.get(Release, digest)
    submissions = site.ledger.find(Submission, f"{release.model}/{release.version}")
    folder = release_folder(site.ctx, submissions[-1], release.decision) if submissions else site.folder / "gone"
    if not (folder / "attest").is_dir():
        raise NotFound(f"the files of {release.model} version {release.version} are not in this store")
    return folder


@router.get(
    "/v1/releases/{digest}/bundle", needs="reader", sends={"application/x-tar": BINARY}, summary="Download a release"
)
def download_bundle(request: Request, digest: ADigest) -> StreamingResponse:
    """A tar of `release/` (the model files) and `attest/` (their attestations).

    `tar xf BUNDLE && auditsvc verify . --key release.pub` verifies it without this service.
    """
    folder = _folder(site_of(request), digest)
    headers = {"content-disposition": f'attachment; filename="{folder.parent.name}-{folder.name}.tar"'}
    return StreamingResponse(tar_of(folder, ("release", "attest")), media_type="application/x-tar", headers=headers)


@router.get(
    "/v1/releases/{digest}/attestations/{name:path}",
    needs="reader",
    sends={"application/json": {}},
    summary="Get one attestation",
)
def get_attestation(
    request: Request,
    digest: ADigest,
    name: Annotated[str, InPath(description="A name in `attestations` of the release.")],
) -> Response:
    """One file of the release's `attest` folder: a Sigstore bundle, or a record that it names."""
    folder = _folder(site_of(request), digest) / "attest"
    found = files_of(folder).get(name)
    if found is None:
        raise NotFound(f"the release has no attestation {name[:200]!r}")
    return Response(found.read_bytes(), media_type="application/json", headers=IMMUTABLE)


@router.get("/v1/releases/{digest}/report", needs="reader", sends={"text/html": {}}, summary="Get the report")
def get_release_report(request: Request, digest: ADigest) -> Response:
    """The report of the release's decision: one self-contained HTML page."""
    site = site_of(request)
    release = site.ledger.get(Release, digest)
    return report_of(site, release.decision, release.model, release.version)


def report_of(site: ProjectState, decision: str, model: str, version: str) -> Response:
    """The report of one decision, in a sandbox.

    Raises:
        NotFound: it has no report.
    """
    path = report_folder(site.folder, decision, model, version) / "report.html"
    if not path.is_file():
        raise NotFound(f"there is no report of this decision on {model} version {version} in this store")
    return Response(path.read_bytes(), media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


@router.get("/v1/releases/{digest}/revocations", needs="reader", summary="Get the revocation status")
def get_revocation_status(request: Request, digest: ADigest) -> RevocationStatus:
    """The pending request, and the revocation once another person confirmed it."""
    ledger = site_of(request).ledger
    release = ledger.get(Release, digest)
    revocations = list(ledger.find(Revocation, digest))
    return RevocationStatus(pending=pending_revocation(ledger, release), revocations=revocations)


@router.post(
    "/v1/releases/{digest}/revocations",
    needs="approver",
    creates=Revocation,
    responses={202: {"description": "Requested; another person must confirm it.", "model": RevocationRequest}},
    summary="Request or confirm a revocation",
)
def create_revocation(request: Request, digest: ADigest, action: ReleaseActionRequest) -> Response:
    """The first person requests it with a reason. When another person confirms it, the release is revoked and loses
    the registry alias."""
    site = site_of(request)
    release = site.ledger.get(Release, digest)
    person = require_independent(request, requesters(pending_revocation(site.ledger, release)))
    return created(request_or_confirm_revocation(site.ctx, release, person, action.reason))


@router.post(
    "/v1/releases/{digest}/rollbacks",
    needs="approver",
    creates=Rollback,
    responses={202: {"description": "Requested; another person must confirm it.", "model": RollbackRequest}},
    summary="Request or confirm a rollback",
)
def create_rollback(request: Request, digest: ADigest, action: ReleaseActionRequest) -> Response:
    """The first person requests it with a reason. When another person confirms it, this release is verified and gets
    the registry alias. The release that had the alias is not revoked."""
    site = site_of(request)
    release = site.ledger.get(Release, digest)
    person = require_independent(request, requesters(pending_rollback(site.ledger, release)))
    return created(request_or_confirm_rollback(site.ctx, release, person, action.reason))
