"""Verifying: is this folder what was approved?  For strangers, offline, with nothing but a trust root.

``verify`` returns what it found, step by step, and never raises for a bad release; it is ``VALID`` only
if every step ran and held.  Steps that need one that failed are left out: what failed is the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats import release_layout
from auditsvc.provenance.formats.dsse import Bundle
from auditsvc.provenance.formats.manifest import Keep, read_folder
from auditsvc.provenance.formats.predicates import VSA_TYPE, Statement
from auditsvc.provenance.formats.strict_json import MAX_BYTES, Fault
from auditsvc.provenance.trust.trust_root import TrustRoot
from auditsvc.provenance.verifier import consistency
from auditsvc.provenance.verifier.ancestry import check_ancestry
from auditsvc.provenance.verifier.examination import VerificationContext, release_of
from auditsvc.provenance.verifier.release_summary import Summary
from auditsvc.records import Moment, Release, Verification


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
    consistency.check_files(found)
    if found.summary:
        consistency.check_decision(found, found.summary, resource)
        consistency.check_inputs(found, found.summary)
        consistency.check_statements(found, found.summary)
    consistency.check_recalls(found)


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
