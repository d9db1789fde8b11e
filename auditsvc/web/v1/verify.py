"""Is this file, or this release, one of ours, and may it still be used?

A single file is hashed while it arrives and never stored.  A release's tar is unpacked into a folder that goes away,
and runs through the same verifier that strangers use offline; here it also knows what this installation recalled.

Provenance by digest: of a file, a model, a decision, anything that has a name here.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from fastapi import APIRouter, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool

from auditsvc.errors import NotFound
from auditsvc.provenance import TrustRoot, verify
from auditsvc.provenance.trust.revocation_list import RevocationList, revoked_digests
from auditsvc.records import Digest, Release, Submission, Verification, VerificationVerdict
from auditsvc.services.key_rotation import revoked
from auditsvc.services.release import release_folder
from auditsvc.services.signing_context import trust_of as installed
from auditsvc.web.authentication import site_of
from auditsvc.web.bundles import unpack
from auditsvc.web.public_url import Origin, origins_of
from auditsvc.web.record_routes import ADigest
from auditsvc.web.role_routes import RoleRoute
from auditsvc.web.state import ProjectState

router = APIRouter(route_class=RoleRoute, tags=["releases"])

TAR = "application/x-tar"
_BINARY = {"schema": {"type": "string", "format": "binary"}}


class Checked(BaseModel):
    """What was found, in words too; `VALID` only if the release verifies and was not recalled."""

    verdict: VerificationVerdict
    words: str
    digest: Digest
    size: int
    model: str | None = None
    version: str | None = None
    release: Digest | None = None
    origins: list[Origin] = []
    verification: Verification | None = None


@router.post(
    "/v1/verify",
    openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": _BINARY, TAR: _BINARY}}},
    summary="Verify a file or a release",
)
async def check(request: Request) -> Checked:
    """Send a model file as it is, or a release's tar as `application/x-tar`.

    A file is looked up by its digest; the release that holds it is verified in this store.  A tar is verified as
    it was sent.
    """
    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        is_tar = request.headers.get("content-type", "").partition(";")[0].strip() == TAR
        kept = Path(scratch) / "release.tar" if is_tar else Path("/dev/null")
        hashed, size = hashlib.sha256(), 0
        with kept.open("wb") as file:
            async for chunk in request.stream():
                hashed.update(chunk)
                size += len(chunk)
                if is_tar:
                    await run_in_threadpool(file.write, chunk)
        digest = f"sha256:{hashed.hexdigest()}"
        if is_tar:
            return await run_in_threadpool(_check_tar, site, kept, Path(scratch), digest, size)
    return await run_in_threadpool(check_digest, site, digest, size)


def trust_of(site: ProjectState) -> TrustRoot:
    """This installation's keys, and everything that it recalled."""
    known = tuple(recall for pair in revoked(site.ctx) for recall in revoked_digests(*pair))
    return installed(site.ctx).with_revocations(RevocationList(issued=site.clock.now(), revocations=known))


def check_digest(site: ProjectState, digest: Digest, size: int) -> Checked:
    """What is known of a file with this digest."""
    found = [*origins_of(site.ledger, digest)]
    releases = site.ledger.find(Release, digest)
    if not releases:
        words = (
            "known here, but not part of any release" if found else "no file of any release, as far as is known here"
        )
        return Checked(verdict="UNKNOWN", words=words, digest=digest, size=size, origins=found)
    release = releases[-1]
    verification = verified(site, release)
    return Checked(
        verdict=verification.verdict,
        words=_words(verification, f"a file of {release.model} version {release.version}"),
        digest=digest,
        size=size,
        model=release.model,
        version=release.version,
        release=release.digest,
        origins=found,
        verification=verification,
    )


def verified(site: ProjectState, release: Release) -> Verification:
    """What verifying this release in this store finds.  Raises ``NotFound``: it was never submitted here."""
    submissions = site.ledger.find(Submission, f"{release.model}/{release.version}")
    if not submissions:
        raise NotFound(f"{release.model} version {release.version} was never submitted here")
    folder = release_folder(site.ctx, submissions[-1], release.decision)
    resource = f"pkg:mlflow/{release.model}@{release.version}"
    return verify(folder / "release", folder / "attest", trust=trust_of(site), at=site.clock.now(), resource=resource)


def _check_tar(site: ProjectState, tar: Path, scratch: Path, digest: Digest, size: int) -> Checked:
    folder = scratch / "unpacked"
    folder.mkdir()
    unpack(tar, folder)
    verification = verify(folder / "release", folder / "attest", trust=trust_of(site), at=site.clock.now())
    words = _words(verification, "a release of this installation")
    return Checked(verdict=verification.verdict, words=words, digest=digest, size=size, verification=verification)


def _words(verification: Verification, what: str) -> str:
    if verification.verdict == "VALID":
        return f"{what}; it verifies"
    reasons = "; ".join(f"{step.code}: {step.detail}" for step in verification.reasons)
    return f"{what}, but {reasons}" if verification.verdict == "REVOKED" else reasons or "not enough is known"


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
    site: ProjectState = site_of(request)
    found = list(origins_of(site.ledger, digest))
    if not found:
        raise NotFound(f"nothing here is known of {digest}")
    released = [item.digest for item in found if item.kind == Release.kind]
    checked = verified(site, site.ledger.get(Release, released[-1])) if released else None
    return Provenance(digest=digest, origins=found, verdict=checked and checked.verdict, verification=checked)
