"""Releases: the record, the bundle that anyone can verify, the report; and taking one back, which needs two people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from auditsvc.api.bundling import files_of, tar_of
from auditsvc.api.identity import site_of
from auditsvc.api.reading import FOR_EVER, ADigest, kept, readable
from auditsvc.api.recalling import RECALLS, Asked, ask_or_confirm, ask_or_go_back
from auditsvc.api.roles import RoleRoute
from auditsvc.api.site import Site
from auditsvc.errors import NotFound
from auditsvc.pipeline.releasing import release_folder
from auditsvc.records import AliasMove, Monitoring, Release, Revocation, Rollback, Submission, Text

router = APIRouter(route_class=RoleRoute, tags=["releases"])

readable(
    router,
    Release,
    "/v1/releases",
    many="Releases",
    about="of",
    means="`model/version`, or the digest of a candidate, a decision or a file.",
)
readable(router, Revocation, "/v1/revocations", many="Revocations", about="of", means="A release's digest.")
readable(
    router, Monitoring, "/v1/monitors", many="Looks at releases", about="of", means="A model's name, or a release."
)
readable(router, Rollback, "/v1/rollbacks", many="Ways back", about="of", means="A model's name, or a release.")
readable(
    router,
    AliasMove,
    "/v1/alias-moves",
    many="Where the alias belongs",
    about="of",
    means="A model's name, or the digest of a release, decision or revocation.",
)

REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; font-src data:; sandbox"
"""A report is one file with everything in it: it may show itself and do nothing else."""


class Recalling(BaseModel):
    """Why a release must not be used any more; whoever confirms need not repeat it."""

    reason: Text | None = None


class Recall(BaseModel):
    """How far a recall is: asked for by one person, or confirmed by another too."""

    asked: Asked | None = None
    revocations: list[Revocation] = []


def _folder(site: Site, digest: str) -> Path:
    release = site.ledger.get(Release, digest)
    submissions = site.ledger.find(Submission, f"{release.model}/{release.version}")
    folder = release_folder(site.ports, submissions[-1], release.decision) if submissions else site.folder / "gone"
    if not (folder / "attest").is_dir():
        raise NotFound(f"the files of {release.model} version {release.version} are not in this store")
    return folder


@router.get(
    "/v1/releases/{digest}/bundle",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}},
    summary="All of it, to verify and use",
)
def bundle(request: Request, digest: ADigest) -> StreamingResponse:
    """A tar of `release/` (the model's files) and `attest/` (what is signed about them).

    `tar xf BUNDLE && auditsvc verify . --key release.pub` checks it without this service.
    """
    folder = _folder(site_of(request), digest)
    headers = {"content-disposition": f'attachment; filename="{folder.parent.name}-{folder.name}.tar"'}
    return StreamingResponse(tar_of(folder, ("release", "attest")), media_type="application/x-tar", headers=headers)


@router.get(
    "/v1/releases/{digest}/attestations/{name:path}",
    response_class=Response,
    responses={200: {"content": {"application/json": {}}}},
    summary="One attestation or record",
)
def attestation(
    request: Request, digest: ADigest, name: Annotated[str, InPath(description="As in `attestations` of the release.")]
) -> Response:
    """One file of the release's `attest` folder: a Sigstore bundle, or a record that it names."""
    folder = _folder(site_of(request), digest) / "attest"
    found = files_of(folder).get(name)
    if found is None:
        raise NotFound(f"the release has no attestation {name[:200]!r}")
    return Response(found.read_bytes(), media_type="application/json", headers=FOR_EVER)


@router.get(
    "/v1/releases/{digest}/report",
    response_class=Response,
    responses={200: {"content": {"text/html": {}}}},
    summary="The report, to read",
)
def report(request: Request, digest: ADigest) -> Response:
    """The report of the decision behind this release: one page with everything in it."""
    site: Site = site_of(request)
    release = site.ledger.get(Release, digest)
    return report_of(site, release.model, release.version)


def report_of(site: Site, model: str, version: str) -> Response:
    """The report of one version, shut off from everything else.

    Raises:
        NotFound: none was written.
    """
    path = site.folder / "reports" / model / version / "report.html"
    if not path.is_file():
        raise NotFound(f"there is no report of {model} version {version} in this store")
    return Response(path.read_bytes(), media_type="text/html", headers={"content-security-policy": REPORT_POLICY})


@router.get("/v1/releases/{digest}/recall", summary="Is it being taken back?")
def recall(request: Request, digest: ADigest) -> Recall:
    """Who asked for a recall, and the revocation once another person confirmed."""
    site: Site = site_of(request)
    site.ledger.get(Release, digest)
    return Recall(asked=RECALLS.asked_of(site, digest), revocations=list(site.ledger.find(Revocation, digest)))


@router.post(
    "/v1/releases/{digest}/recall",
    status_code=201,
    response_model=Revocation,
    responses={202: {"description": "Asked for; another person must confirm.", "model": Recall}},
    summary="Ask for a recall, or confirm one",
)
def take_back(request: Request, digest: ADigest, given: Recalling) -> Response:
    """The first person asks, with a reason; another confirms, and the alias is dropped at once."""
    site: Site = site_of(request)
    release = site.ledger.get(Release, digest)
    made = ask_or_confirm(site, release, request.state.caller.name, given.reason)
    if isinstance(made, Asked):
        return Response(Recall(asked=made).model_dump_json(exclude_none=True), 202, media_type="application/json")
    return kept(request, made, 201, "/v1/revocations")


@router.post(
    "/v1/releases/{digest}/return",
    status_code=201,
    response_model=Rollback,
    responses={202: {"description": "Asked for; another person must confirm.", "model": Recall}},
    summary="Ask to go back to this release, or confirm it",
)
def go_back(request: Request, digest: ADigest, given: Recalling) -> Response:
    """The first person asks, with a reason; another confirms. The release is verified first, then the alias moves.
    What carried the alias stays a release."""
    site: Site = site_of(request)
    made = ask_or_go_back(site, site.ledger.get(Release, digest), request.state.caller.name, given.reason)
    if isinstance(made, Asked):
        return Response(Recall(asked=made).model_dump_json(exclude_none=True), 202, media_type="application/json")
    return kept(request, made, 201, "/v1/rollbacks")
