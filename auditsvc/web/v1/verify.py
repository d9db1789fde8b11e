"""Verify a file or a release, look up the provenance of a digest, and trace a model by its watermark.

A single file is hashed while it arrives and not stored. The tar of a release is unpacked into a temporary folder and
verified by the same code as offline; here the verifier also knows the revocations of this installation.

A model is traced by its watermark from a file, or from its predictions for the query images.  Only auditors can: a
match names the recipient, and unlimited queries would help an attacker remove a watermark.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from fastapi import Query, Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from auditsvc.compliance.assessment.attestations import Answers, ChangePlan, ChangeVerdict, Document
from auditsvc.errors import NotFound
from auditsvc.ports import Ledger
from auditsvc.provenance import TrustRoot, verify
from auditsvc.provenance.trust.trust_root import RevocationList, revoked_digests
from auditsvc.records import (
    AliasMove,
    Approval,
    Candidate,
    CheckFailed,
    Decision,
    Digest,
    Evidence,
    Monitoring,
    Parent,
    Policy,
    Record,
    Release,
    Revocation,
    Rollback,
    Submission,
    TraceResult,
    Verification,
    VerificationVerdict,
    Waiver,
)
from auditsvc.services.key_rotation import revoked
from auditsvc.services.release import release_folder
from auditsvc.services.signing_context import trust_of as installed
from auditsvc.web.auth.authentication import BINARY, Router, site_of
from auditsvc.web.record_routes import PATHS, ADigest
from auditsvc.web.state import ProjectState
from auditsvc.web.v1.uploads import TAR, save_body, tar_of, unpack

router = Router(tags=["releases"])

RECORD_KINDS: tuple[type[Record], ...] = (
    Parent,
    Candidate,
    Submission,
    Evidence,
    CheckFailed,
    Policy,
    Decision,
    Waiver,
    Approval,
    Release,
    Revocation,
    Rollback,
    Monitoring,
    AliasMove,
    Document,
    Answers,
    ChangePlan,
    ChangeVerdict,
)
"""Kinds of record in the order in which they arise, from parent to change verdict."""


class Origin(BaseModel):
    """A record that has the digest, or is about it."""

    kind: str
    digest: Digest
    relation: str
    href: str


def origins_of(ledger: Ledger, digest: Digest) -> Iterator[Origin]:
    """Every record that has this digest or is about it, in the order of ``RECORD_KINDS``."""
    for kind in RECORD_KINDS:
        for record, relation in _related(ledger, kind, digest):
            href = f"{PATHS[kind]}/{record.digest}"
            yield Origin(kind=kind.kind, digest=record.digest, relation=relation, href=href)


def _related(ledger: Ledger, kind: type[Record], digest: Digest) -> Iterator[tuple[Record, str]]:
    with contextlib.suppress(NotFound):  # not an error: the digest can be that of another kind, or of a file
        yield ledger.get(kind, digest), "is"
    for record in ledger.find(kind, digest):
        yield record, _relation(record, digest)


def _relation(record: Record, digest: Digest) -> str:
    files = getattr(record, "files", ())
    if any(file.digest == digest for file in files):
        return "contains this file"
    return "was made from it" if isinstance(record, Candidate) and record.parent == digest else "is about it"


class FileVerification(BaseModel):
    """The result; `VALID` only if the release verifies and was not revoked."""

    verdict: VerificationVerdict
    message: str
    digest: Digest
    size: int
    model: str | None = None
    version: str | None = None
    release: Digest | None = None
    origins: list[Origin] = []
    verification: Verification | None = None


@router.post(
    "/v1/verify",
    needs="reader",
    takes={"application/octet-stream": BINARY, TAR: BINARY},
    summary="Verify a file or a release",
)
async def verify_upload(request: Request) -> FileVerification:
    """Send a model file as it is, or the tar of a release as `application/x-tar`.

    A file is looked up by its digest, and the release that contains it is verified in this store. A tar is verified
    as it was sent.
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
    """The keys of this installation, and everything that it revoked."""
    known = tuple(item for pair in revoked(site.ctx) for item in revoked_digests(*pair))
    return installed(site.ctx).with_revocations(RevocationList(issued=site.clock.now(), revocations=known))


def check_digest(site: ProjectState, digest: Digest, size: int) -> FileVerification:
    """What the ledger knows about a file with this digest."""
    found = [*origins_of(site.ledger, digest)]
    releases = site.ledger.find(Release, digest)
    if not releases:
        message = "known, but not part of a release" if found else "not part of a release that this service knows"
        return FileVerification(verdict="UNKNOWN", message=message, digest=digest, size=size, origins=found)
    release = releases[-1]
    verification = verified(site, release)
    return FileVerification(
        verdict=verification.verdict,
        message=_message(verification, f"a file of {release.model} version {release.version}"),
        digest=digest,
        size=size,
        model=release.model,
        version=release.version,
        release=release.digest,
        origins=found,
        verification=verification,
    )


def verified(site: ProjectState, release: Release) -> Verification:
    """Verify a release in this store.  Raises ``NotFound``: it was not submitted here."""
    submissions = site.ledger.find(Submission, f"{release.model}/{release.version}")
    if not submissions:
        raise NotFound(f"{release.model} version {release.version} was not submitted here")
    folder = release_folder(site.ctx, submissions[-1], release.decision)
    resource = f"pkg:mlflow/{release.model}@{release.version}"
    return verify(folder / "release", folder / "attest", trust=trust_of(site), at=site.clock.now(), resource=resource)


def _check_tar(site: ProjectState, tar: Path, scratch: Path, digest: Digest, size: int) -> FileVerification:
    folder = scratch / "unpacked"
    folder.mkdir()
    unpack(tar, folder)
    verification = verify(folder / "release", folder / "attest", trust=trust_of(site), at=site.clock.now())
    message = _message(verification, "a release of this installation")
    return FileVerification(
        verdict=verification.verdict, message=message, digest=digest, size=size, verification=verification
    )


def _message(verification: Verification, what: str) -> str:
    if verification.verdict == "VALID":
        return f"{what}; it verifies"
    reasons = "; ".join(f"{step.code}: {step.detail}" for step in verification.reasons)
    return (
        f"{what}, but {reasons}" if verification.verdict == "REVOKED" else reasons or "there is not enough information"
    )


class Provenance(BaseModel):
    """Every record about a digest; for a released file or candidate also the verification, step by step."""

    digest: Digest
    origins: list[Origin]
    verdict: VerificationVerdict | None = None
    verification: Verification | None = None


@router.get("/v1/provenance/{digest}", needs="reader", summary="Get the provenance of a digest")
def get_provenance(request: Request, digest: ADigest) -> Provenance:
    """Every record that has this digest or is about it, from parent to revocation.

    The newest release among them is verified in this store, with the same steps as `auditsvc verify`.
    """
    site: ProjectState = site_of(request)
    found = list(origins_of(site.ledger, digest))
    if not found:
        raise NotFound(f"nothing is known about {digest}")
    released = [item.digest for item in found if item.kind == Release.kind]
    checked = verified(site, site.ledger.get(Release, released[-1])) if released else None
    return Provenance(digest=digest, origins=found, verdict=checked and checked.verdict, verification=checked)


@router.post("/v1/identify", needs="auditor", takes={"application/octet-stream": BINARY}, summary="Trace a model file")
async def trace_file(request: Request) -> TraceResult:
    """Send a safetensors or ONNX file. It is compared with every watermarked version and not stored."""
    from auditsvc.services.tracing import identify_file

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        path = Path(scratch) / "found"
        await save_body(request, path)
        named = path.rename(path.with_suffix(_suffix(path)))
        return await run_in_threadpool(identify_file, site.ctx, named)


@router.post(
    "/v1/identify/answers",
    needs="auditor",
    takes={"text/csv": {"schema": {"type": "string"}}},
    summary="Trace predictions",
)
async def trace_predictions(request: Request) -> TraceResult:
    """Send `answers.csv` of `GET /v1/identify/queries`, filled in with the predictions of the suspect model."""
    from auditsvc.services.tracing import identify_answers

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        path = Path(scratch) / "answers.csv"
        await save_body(request, path)
        return await run_in_threadpool(identify_answers, site.ctx, path)


@router.get(
    "/v1/identify/queries", needs="auditor", sends={"application/x-tar": BINARY}, summary="Download query images"
)
def download_queries(
    request: Request,
    model: Annotated[str | None, Query(max_length=128, description="Only queries of this model.")] = None,
    version: Annotated[str | None, Query(max_length=20, description="Only queries of this version.")] = None,
) -> Response:
    """A tar of `queries/`: images, and `answers.csv` to fill in with a label, or with one score per class."""
    from auditsvc.services.tracing import export_query_set, queries_for

    site: ProjectState = site_of(request)
    with tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        export_query_set(queries_for(site.ctx, model, version), Path(scratch) / "queries")
        tar = b"".join(tar_of(Path(scratch), ("queries",)))
    headers = {"content-disposition": 'attachment; filename="queries.tar"'}
    return Response(tar, media_type="application/x-tar", headers=headers)


def _suffix(path: Path) -> str:
    """A safetensors file starts with the length of its header and a brace; every other file is read as ONNX."""
    with path.open("rb") as file:
        return ".safetensors" if file.read(9)[8:] == b"{" else ".onnx"
