"""Verifying: is this folder what was approved?  For strangers, offline, with nothing but a trust root.

``verify`` returns what it found, step by step, and never raises for a bad release; it is ``VALID`` only
if every step ran and held.  Steps that need one that failed are left out: what failed is the reason.
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
from auditsvc.provenance.formats.manifest import Folder, Keep, differences, read_folder
from auditsvc.provenance.formats.oms import OMS_TYPE, resources_of
from auditsvc.provenance.formats.predicates import VSA_TYPE, Statement
from auditsvc.provenance.formats.strict_json import MAX_BYTES, Fault
from auditsvc.provenance.formats.verification_summary import Summary
from auditsvc.provenance.trust.trust_root import TrustRoot
from auditsvc.provenance.verifier import checks
from auditsvc.provenance.verifier.attestation import open_attestation
from auditsvc.provenance.verifier.context import VerificationContext, VerificationReport, release_of
from auditsvc.records import Moment, Release, Verification

DEEPEST = 16
_BEFORE = "parent/"
Judge = Callable[[Path, Sequence[Path], int], Verification]
"""Verifies the release in a folder, given the other releases at hand and how deep this is."""


def verify(
    files: Path,
    attestations: Path,
    *,
    trust: TrustRoot,
    at: Moment,
    resource: str | None = None,
    parents: Sequence[Path] = (),
) -> Verification:
    """What a stranger finds who holds the files of a release against its attestations.

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

    def judge(folder: Path, rest: Sequence[Path], deeper: int) -> Verification:
        return _verified(folder / release_layout.RELEASE, folder / release_layout.ATTEST, trust, at, None, rest, deeper)

    check_ancestry(found, parents, depth, judge)
    return found.transcript.verification(at)


def examine(
    files: Path,
    attestations: Path,
    *,
    trust: TrustRoot,
    at: Moment,
    resource: str | None = None,
    keep: Keep | None = None,
) -> VerificationContext:
    """Run every step.  With ``keep``, the bytes of each file are handed over as they were hashed.

    Raises:
        Unavailable: the disk can't be read.
    """
    contents: dict[str, bytes] = {}
    beside = read_folder(attestations, contents.__setitem__, MAX_BYTES)
    found = VerificationContext(trust, at, read_folder(files, keep), beside, contents)
    found.transcript.failed("trust", (Fault(trouble.code, trouble.detail) for trouble in trust.trouble))
    try:
        if trust.keys:
            _examine(found, resource)
    except InvalidInput as error:
        found.transcript.failed("verifier", [Fault("VERIFIER_ERROR", str(error)[:1000])])
    return found


def _examine(found: VerificationContext, resource: str | None) -> None:
    """Steps 1 to 10 of the algorithm: who signed, which files, what was decided, does it fit, was it recalled."""
    found.attest()
    checks.check_files(found)
    if found.summary:
        checks.check_decision(found, found.summary, resource)
        checks.check_inputs(found, found.summary)
        checks.check_statements(found, found.summary)
    checks.check_recalls(found)


def summary_in(bundle: Bundle) -> Summary:
    """The summary in a bundle, whoever signed it.  Raises ``Fault``."""
    return Summary.parse(Statement.parse(bundle.payload, VSA_TYPE).predicate)


def release_in(files: Path, attestations: Path) -> Release:
    """The release record that a sealed folder makes; says nothing of whether it is valid.

    Raises:
        InvalidInput: the folder holds no readable summary.
        Unavailable: the disk can't be read.
    """
    contents: dict[str, bytes] = {}
    beside = read_folder(attestations, contents.__setitem__, MAX_BYTES)
    summary = summary_in(Bundle.parse(contents.get("vsa" + release_layout.SUFFIX, b"")))
    return release_of(summary, read_folder(files), beside)


def check_ancestry(found: VerificationContext, at_hand: Sequence[Path], depth: int, judge: Judge) -> None:
    """Verify the parent's release, if it is at hand."""
    wanted = parent_files(found)
    if not wanted:
        return
    if not at_hand:
        found.transcript.note(
            "The parent was taken as it is named; its own release, if there is one, was not verified."
        )
        return
    with found.transcript.step("parent") as seen:
        if depth >= DEEPEST:
            raise Fault("PROVENANCE", f"more than {DEEPEST} generations")
        folder = _parent_among(at_hand, wanted)
        if folder is None:
            if depth:
                seen.detail = "a model that no release at hand was made as: the first of its line"
                return
            raise Fault("PROVENANCE", "none of the releases that were given is the parent's")
        rest = [other for other in at_hand if other != folder]
        _hold(judge(folder, rest, depth + 1), folder)
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
    return isinstance(item.get("name"), str) and item["name"].startswith(_BEFORE)


def _file(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["name"].removeprefix(_BEFORE), f"sha256:{item['digest'].get('sha256')}"


def _parent_among(at_hand: Sequence[Path], wanted: Mapping[str, str]) -> Path | None:
    for folder in at_hand:
        there = {file.name: file.digest for file in read_folder(folder / release_layout.RELEASE).files}
        if wanted.items() <= there.items():
            return folder
    return None


def _hold(parent: Verification, folder: Path) -> None:
    """What is wrong with the parent is wrong here, in its own way.  Raises ``Fault``."""
    if parent.verdict == "VALID":
        return
    first = parent.reasons[0]
    told = f"the parent's release in {folder.name} is {parent.verdict}: {first.step}: {first.code} {first.detail}"
    raise Fault({"REVOKED": "REVOKED", "UNKNOWN": "STALE_TRUST"}.get(parent.verdict, "PROVENANCE"), told[:1000])


@dataclass(frozen=True)
class VerifiedRelease:
    """The files of a valid release, in memory: name to bytes, and what the verification found."""

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
    are held in memory.

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
    verification = found.transcript.verification(moment)
    if verification.verdict != "VALID":
        reasons = (f"{step.step}: {step.code} {step.detail}" for step in verification.reasons)
        raise NotVerified(f"the release in {folder} is {verification.verdict} and is not loaded", reasons)
    return VerifiedRelease(files, verification)


def verify_folder(
    folder: Path, signature: Path, *, trust: TrustRoot, at: Moment, old_keys: bool = False
) -> Verification:
    """Whether the folder holds exactly the files that a trusted release key signed.

    ``old_keys`` reads bundles that carry their key instead of its hint (``model-signing`` before 1.1); the
    key must be trusted all the same.

    Raises:
        Unavailable: the disk can't be read.
    """
    transcript = VerificationReport()
    found = _without(read_folder(folder), folder, signature)
    own = (signature.name,) if signature.parent.resolve() == folder.resolve() else ()
    with transcript.step("signature") as seen:
        attested = open_attestation("oms", Bundle.parse(_bytes_of(signature), old_keys), trust, OMS_TYPE)
        seen.detail = f"by the {attested.key.role} key {attested.key.hint[:16]}..."
        with transcript.step("manifest"):
            listed = resources_of(attested.statement.subject, attested.statement.predicate, own)
            wrong = (*found.faults, *differences(listed, found.files))
            transcript.failed("files", wrong)
            if not wrong:
                transcript.held("files", f"{len(found.files)} files")
    transcript.note("A signature alone: nothing is known of how the model was made, what it was checked for, or when.")
    return transcript.verification(at)


def _without(found: Folder, folder: Path, signature: Path) -> Folder:
    """The folder without the signature, where that lies at its top."""
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
