"""Verification of a release: offline, with a trust root and nothing else.

``verify`` runs every step, reports all of them, and never raises for a bad release.  A release is ``VALID`` only if
every step ran and passed; a step whose input failed is left out, and the failure is the reason.

``load_verified`` returns the bytes that were hashed: a verifier that reads a file and a loader that opens it again
leave a gap in which the file can change (time of check to time of use).  Here every file is read once.

A parent whose release is available is verified too.  The provenance names the parent's files by digest, and a release
that contains exactly those is the parent's.

``verify_folder`` checks a plain OMS signature over a folder: which bytes a key signed, and nothing about why.  It reads
what ``model-signing`` writes, but stricter: no file is exempt, not even ``.git``, except the signature itself.

Reference: OpenSSF (2026), "Model Signing Specification" v1.0.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditsvc.errors import InvalidInput, NotVerified, Unavailable
from auditsvc.provenance.formats import release_layout
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.provenance.formats.manifest import OMS_TYPE, Folder, Keep, differences, read_folder, resources_of
from auditsvc.provenance.formats.predicates import VSA_TYPE, Statement, Summary
from auditsvc.provenance.formats.strict_json import MAX_BYTES, Fault
from auditsvc.provenance.trust.trust_root import TrustRoot
from auditsvc.provenance.verifier import checks
from auditsvc.provenance.verifier.verification_context import (
    VerificationContext,
    VerificationReport,
    open_attestation,
    release_of,
)
from auditsvc.records import Moment, Release, Verification

MAX_DEPTH = 16
_PARENT_PREFIX = "parent/"
VerifyRelease = Callable[[Path, Sequence[Path], int], Verification]
"""Verifies the release in a folder, given the other available releases and the depth of the ancestry."""


def verify(
    files: Path,
    attestations: Path,
    *,
    trust: TrustRoot,
    at: Moment,
    resource: str | None = None,
    parents: Sequence[Path] = (),
) -> Verification:
    """Verify the files of a release against its attestations; the result lists every step.

    ``resource`` is the model version that the caller asked for (``pkg:mlflow/<model>@<version>``); without
    it, the release may be of any model that the trusted keys released, and a note says so.  ``parents`` are folders
    with releases of ancestors; those that this one was made of are verified by the same trust.

    Raises:
        Unavailable: the disk can't be read.  Nothing else: a bad release is a result.
    """
    return _verified(files, attestations, trust, at, resource, parents, 0)


def _verified(
    files: Path,
    attestations: Path,
    trust: TrustRoot,
    at: Moment,
    resource: str | None,
    parents: Sequence[Path],
    depth: int,
) -> Verification:
    found = examine(files, attestations, trust=trust, at=at, resource=resource)

    def verify_release(folder: Path, rest: Sequence[Path], deeper: int) -> Verification:
        return _verified(folder / release_layout.RELEASE, folder / release_layout.ATTEST, trust, at, None, rest, deeper)

    check_ancestry(found, parents, depth, verify_release)
    return found.report.verification(at)


def examine(
    files: Path,
    attestations: Path,
    *,
    trust: TrustRoot,
    at: Moment,
    resource: str | None = None,
    keep: Keep | None = None,
) -> VerificationContext:
    """Run every step.  With ``keep``, the bytes of each file are passed on as they were hashed.

    Raises:
        Unavailable: the disk can't be read.
    """
    contents: dict[str, bytes] = {}
    folder = read_folder(attestations, contents.__setitem__, MAX_BYTES)
    found = VerificationContext(trust, at, read_folder(files, keep), folder, contents)
    found.report.failed("trust", (Fault(problems.code, problems.detail) for problems in trust.problems))
    try:
        if trust.keys:
            _examine(found, resource)
    except InvalidInput as error:
        found.report.failed("verifier", [Fault("VERIFIER_ERROR", str(error)[:1000])])
    return found


def _examine(found: VerificationContext, resource: str | None) -> None:
    """Signatures, files, decision, consistency, revocations, in this order."""
    found.attest()
    checks.check_files(found)
    if found.summary:
        checks.check_decision(found, found.summary, resource)
        checks.check_inputs(found, found.summary)
        checks.check_statements(found, found.summary)
    checks.check_revocations(found)


def summary_in(bundle: Bundle) -> Summary:
    """The summary in a bundle, with no check of its signature.  Raises ``Fault``."""
    return Summary.parse(Statement.parse(bundle.payload, VSA_TYPE).predicate)


def release_in(files: Path, attestations: Path) -> Release:
    """The release record of a signed folder, valid or not.

    Raises:
        InvalidInput: the folder has no readable summary.
        Unavailable: the disk can't be read.
    """
    contents: dict[str, bytes] = {}
    folder = read_folder(attestations, contents.__setitem__, MAX_BYTES)
    summary = summary_in(Bundle.parse(contents.get("vsa" + release_layout.SUFFIX, b"")))
    return release_of(summary, read_folder(files), folder)


def check_ancestry(
    found: VerificationContext, available: Sequence[Path], depth: int, verify_release: VerifyRelease
) -> None:
    """Verify the parent's release, if it is available."""
    wanted = parent_files(found)
    if not wanted:
        return
    if not available:
        found.report.note("The parent was taken as it is named; its own release, if there is one, was not verified.")
        return
    with found.report.step("parent") as seen:
        if depth >= MAX_DEPTH:
            raise Fault("PROVENANCE", f"more than {MAX_DEPTH} generations")
        folder = _parent_among(available, wanted)
        if folder is None:
            if depth:
                seen.detail = "no available release has these files: the first of its line"
                return
            raise Fault("PROVENANCE", "none of the releases that were given is the parent's")
        rest = [other for other in available if other != folder]
        _require_valid(verify_release(folder, rest, depth + 1), folder)
        seen.detail = f"the parent's release in {folder.name} is VALID"


def parent_files(found: VerificationContext) -> dict[str, str]:
    """The parent's files by name and digest, as the signed provenance names them."""
    attested = found.attested.get("provenance")
    predicate = attested.statement.predicate if attested else None
    build = predicate.get("buildDefinition") if isinstance(predicate, Mapping) else None
    items = build.get("resolvedDependencies") if isinstance(build, Mapping) else None
    return dict(_file(item) for item in items if _is_file(item)) if isinstance(items, list) else {}


def _is_file(item: Any) -> bool:
    if not isinstance(item, Mapping) or not isinstance(item.get("digest"), Mapping):
        return False
    return isinstance(item.get("name"), str) and item["name"].startswith(_PARENT_PREFIX)


def _file(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["name"].removeprefix(_PARENT_PREFIX), f"sha256:{item['digest'].get('sha256')}"


def _parent_among(available: Sequence[Path], wanted: Mapping[str, str]) -> Path | None:
    for folder in available:
        there = {file.name: file.digest for file in read_folder(folder / release_layout.RELEASE).files}
        if wanted.items() <= there.items():
            return folder
    return None


def _require_valid(parent: Verification, folder: Path) -> None:
    """A parent that is not valid makes its descendants invalid, revoked or unknown.  Raises ``Fault``."""
    if parent.verdict == "VALID":
        return
    first = parent.reasons[0]
    message = f"the parent's release in {folder.name} is {parent.verdict}: {first.step}: {first.code} {first.detail}"
    raise Fault({"REVOKED": "REVOKED", "UNKNOWN": "STALE_TRUST"}.get(parent.verdict, "PROVENANCE"), message[:1000])


@dataclass(frozen=True)
class VerifiedRelease:
    """The files of a valid release, in memory: name to bytes, and the verification."""

    files: dict[str, bytes]
    verification: Verification

    @property
    def weights(self) -> bytes:
        """The bytes of the one safetensors file; ``safetensors.torch.load`` reads them.

        Raises:
            InvalidInput: the release has none, or several.
        """
        found = [name for name in self.files if name.endswith(".safetensors")]
        if len(found) != 1:
            raise InvalidInput(f"the release has {len(found)} safetensors files; choose from .files")
        return self.files[found[0]]


def load_verified(
    folder: Path | str, *, trust: TrustRoot | Path | str, resource: str | None = None, at: Moment | None = None
) -> VerifiedRelease:
    """The files of the release in ``folder`` (with ``release/`` and ``attest/`` in it), if it is valid.

    ``trust`` is a trust root, or the path of one; ``resource`` the model version that is wanted.  All files
    are kept in memory.

    Raises:
        NotVerified: anything but ``VALID``.
        InvalidInput, NotFound: the trust root can't be used.
        Unavailable: the disk can't be read.
    """
    root = trust if isinstance(trust, TrustRoot) else TrustRoot.load(Path(trust))
    moment = at or datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    files: dict[str, bytes] = {}
    found = examine(
        Path(folder) / "release",
        Path(folder) / "attest",
        trust=root,
        at=moment,
        resource=resource,
        keep=files.__setitem__,
    )
    verification = found.report.verification(moment)
    if verification.verdict != "VALID":
        reasons = (f"{step.step}: {step.code} {step.detail}" for step in verification.reasons)
        raise NotVerified(f"the release in {folder} is {verification.verdict} and is not loaded", reasons)
    return VerifiedRelease(files, verification)


def verify_folder(
    folder: Path, signature: Path, *, trust: TrustRoot, at: Moment, old_keys: bool = False
) -> Verification:
    """Whether the folder contains exactly the files that a trusted release key signed.

    ``old_keys`` reads bundles that carry their key instead of its hint (``model-signing`` before 1.1); the
    key must be trusted all the same.

    Raises:
        Unavailable: the disk can't be read.
    """
    report = VerificationReport()
    found = _without(read_folder(folder), folder, signature)
    own = (signature.name,) if signature.parent.resolve() == folder.resolve() else ()
    with report.step("signature") as seen:
        attested = open_attestation("oms", Bundle.parse(_bytes_of(signature), old_keys), trust, OMS_TYPE)
        seen.detail = f"by the {attested.key.role} key {attested.key.hint[:16]}..."
        with report.step("manifest"):
            listed = resources_of(attested.statement.subject, attested.statement.predicate, own)
            wrong = (*found.faults, *differences(listed, found.files))
            report.failed("files", wrong)
            if not wrong:
                report.held("files", f"{len(found.files)} files")
    report.note("Only a signature was verified: how and when the model was made, and what was checked, is unknown.")
    return report.verification(at)


def _without(found: Folder, folder: Path, signature: Path) -> Folder:
    """The folder without the signature file."""
    if signature.parent.resolve() != folder.resolve():
        return found
    return Folder(tuple(file for file in found.files if file.name != signature.name), found.faults)


def _bytes_of(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Fault("TOO_LARGE", f"{path.name} has more than {MAX_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise Fault("MISSING_ATTESTATION", f"{path.name} is not there") from error
    except OSError as error:
        raise Unavailable(f"cannot read {path}: {error.strerror}") from error
