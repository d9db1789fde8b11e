"""Releases: the record, the bundle that anyone can verify, the report; and taking one back, which needs two people.

Taking a release back, or going back to an earlier one, takes two people: one asks and says why, another confirms.

What was asked for waits in a table of the service; what is confirmed is a ``Revocation`` or a ``Rollback`` in the
ledger, and no record has the same person twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi import Path as InPath
from pydantic import BaseModel
from sqlalchemy import Table, delete, insert, select
from starlette.responses import Response, StreamingResponse

from auditsvc.errors import Conflict, InvalidInput, NotFound
from auditsvc.records import (
    AliasMove,
    Digest,
    Moment,
    Monitoring,
    Name,
    Release,
    Revocation,
    Rollback,
    Submission,
    Text,
    Value,
)
from auditsvc.services.release import release_folder
from auditsvc.web.authentication import site_of
from auditsvc.web.bundles import files_of, tar_of
from auditsvc.web.record_routes import FOR_EVER, ADigest, get_record, record_router
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.service_schema import revocation_request, rollback_request
from auditsvc.web.state import ProjectState


class PendingRequest(Value):
    """What was asked for about a release, and waits for a second person."""

    release: Digest
    reason: Text
    person: Name
    at: Moment


@dataclass(frozen=True)
class PendingRequestView:
    """What is asked for, one thing for each release: its table, its event in the log, and what it is in words."""

    table: Table
    event: str
    words: str

    def asked_of(self, site: ProjectState, release: Digest) -> PendingRequest | None:
        """What was asked for and is not confirmed yet; None where nobody asked."""
        with site.access.read_tx() as connection:
            row = connection.execute(select(self.table).where(self.table.c.release == release)).mappings().first()
        if row is None:
            return None
        return PendingRequest(
            release=row["release"], reason=row["reason"], person=row["requested_by"], at=row["requested_at"]
        )

    def second(
        self, site: ProjectState, release: Digest, person: str, reason: str | None
    ) -> tuple[PendingRequest, bool]:
        """What was asked for, and whether this person is the second; the first one asks now.

        Raises:
            InvalidInput: the first to ask gives no reason.
            Conflict: who asked can't confirm.
        """
        asked = self.asked_of(site, release)
        if asked is not None:
            if asked.person.lower() == person.lower():
                raise Conflict(f"you asked for this {self.words}; another person must confirm it")
            return asked, True
        if reason is None:
            raise InvalidInput(f"nobody asked for this {self.words} yet: say why")
        asked = PendingRequest(release=release, reason=reason, person=person, at=site.clock.now())
        row = {
            "release": release,
            "reason": reason,
            "requested_by": person,
            "requested_at": asked.at.isoformat(),
        }
        with site.access.write_tx() as connection:
            connection.execute(insert(self.table), row)
        site.log_event(self.event, person, object=release)
        return asked, False

    def done(self, site: ProjectState, release: Digest) -> None:
        """It waits no longer."""
        with site.access.write_tx() as connection:
            connection.execute(delete(self.table).where(self.table.c.release == release))


RECALLS = PendingRequestView(revocation_request, "revocation.requested", "recall")
RETURNS = PendingRequestView(rollback_request, "rollback.requested", "way back")


def request_or_confirm_revocation(
    site: ProjectState, release: Release, person: str, reason: str | None
) -> PendingRequest | Revocation:
    """Ask for a recall, or confirm the one that another person asked for.  Raises as ``Waiting.second``."""
    from auditsvc.services.release import revoke

    done = site.ledger.find(Revocation, release.digest)
    if done:
        return done[0]
    asked, confirmed = RECALLS.second(site, release.digest, person, reason)
    if not confirmed:
        return asked
    revocation = revoke(site.ctx, release, asked.reason, asked.person, person)
    RECALLS.done(site, release.digest)
    return revocation


def request_or_confirm_rollback(
    site: ProjectState, release: Release, person: str, reason: str | None
) -> PendingRequest | Rollback:
    """Ask to go back to this release, or confirm it.

    Raises:
        InvalidInput, Conflict: as ``Waiting.second``.
        NotApproved: the gate does not say yes to it any more, or it does not verify.
    """
    from auditsvc.services.rollback import roll_back

    asked, confirmed = RETURNS.second(site, release.digest, person, reason)
    if not confirmed:
        return asked
    made = roll_back(site.ctx, release.model, release.version, asked.reason, asked.person, person)
    RETURNS.done(site, release.digest)
    return made


router = APIRouter(route_class=RoleRoute, tags=["releases"])

record_router(
    router,
    Release,
    "/v1/releases",
    many="Releases",
    about="of",
    means="`model/version`, or the digest of a candidate, a decision or a file.",
)
record_router(router, Revocation, "/v1/revocations", many="Revocations", about="of", means="A release's digest.")
record_router(
    router, Monitoring, "/v1/monitors", many="Looks at releases", about="of", means="A model's name, or a release."
)
record_router(router, Rollback, "/v1/rollbacks", many="Ways back", about="of", means="A model's name, or a release.")
record_router(
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

    asked: PendingRequest | None = None
    revocations: list[Revocation] = []


def _folder(site: ProjectState, digest: str) -> Path:
    release = site.ledger.get(Release, digest)
    submissions = site.ledger.find(Submission, f"{release.model}/{release.version}")
    folder = release_folder(site.ctx, submissions[-1], release.decision) if submissions else site.folder / "gone"
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
    site: ProjectState = site_of(request)
    release = site.ledger.get(Release, digest)
    return report_of(site, release.model, release.version)


def report_of(site: ProjectState, model: str, version: str) -> Response:
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
    site: ProjectState = site_of(request)
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
    site: ProjectState = site_of(request)
    release = site.ledger.get(Release, digest)
    made = request_or_confirm_revocation(site, release, request.state.caller.name, given.reason)
    if isinstance(made, PendingRequest):
        return Response(Recall(asked=made).model_dump_json(exclude_none=True), 202, media_type="application/json")
    return get_record(request, made, 201, "/v1/revocations")


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
    site: ProjectState = site_of(request)
    made = request_or_confirm_rollback(site, site.ledger.get(Release, digest), request.state.caller.name, given.reason)
    if isinstance(made, PendingRequest):
        return Response(Recall(asked=made).model_dump_json(exclude_none=True), 202, media_type="application/json")
    return get_record(request, made, 201, "/v1/rollbacks")
