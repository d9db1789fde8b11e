"""Sealing: an approved candidate becomes a release that strangers can verify.

Everything is written into ``attest.partial`` first (see ``attesting``).  The folder is renamed to
``attest`` only after the public verifier found the result ``VALID``; until then there is no release,
and nothing that was not logged is ever published.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from auditsvc.errors import Conflict, InvalidInput
from auditsvc.ports import Keys, Log
from auditsvc.provenance import layout
from auditsvc.provenance.approved import Sealing
from auditsvc.provenance.attesting import Attesting, Notaries
from auditsvc.provenance.manifest import differences, read_folder
from auditsvc.provenance.verifying import release_in, verify
from auditsvc.records import FileEntry, Moment, Release, Verification

_EXPECTED_OF_A_REFUSAL = {"NOT_PASSED", "MISSING_ATTESTATION", "INPUT_MISMATCH", "APPROVALS"}


def seal(
    folder: Path, sealing: Sealing, *, keys: Keys, log: Log, at: Moment, notaries: Notaries | None = None
) -> Release:
    """Sign, attest and log the candidate in ``folder/release``; its release.

    Doing it again gives the same release: a finished one is verified and returned, an interrupted one is
    finished with the signatures that it has.

    Raises:
        NotApproved: the decision or the approvals do not allow it.
        InvalidInput: records that do not fit together, or files that are not the candidate's.
        Conflict: the folder holds another release already, or what was sealed does not verify.
        Unavailable: the disk, the keys or the log failed; what is done is kept, try again.
    """
    sealing.check(at)
    _check_files(folder / layout.RELEASE, sealing)
    attesting = Attesting(folder / layout.ATTEST, sealing, keys, notaries or Notaries())
    trust = attesting.trust

    def check(attestations: Path) -> None:
        _must_be_valid(verify(folder / layout.RELEASE, attestations, trust=trust, at=at), attestations)

    _attest(attesting, log, at, check)
    release = release_in(folder / layout.RELEASE, folder / layout.ATTEST)
    wanted = (sealing.model, sealing.version, sealing.candidate.digest, sealing.decision.digest)
    if (release.model, release.version, release.candidate, release.decision) != wanted:
        raise Conflict(f"{folder} holds the release of another decision; seal into a folder of its own")
    check(folder / layout.ATTEST)
    return release


def attest_refusal(
    folder: Path, sealing: Sealing, *, keys: Keys, log: Log, at: Moment, notaries: Notaries | None = None
) -> tuple[FileEntry, ...]:
    """Sign, attest and log a decision against a release, in ``folder/refusal``; its files.

    The model gets no OMS signature, so that no other tool takes it for released; the summary says ``FAILED``.

    Raises:
        InvalidInput: records that do not fit together, or an approved decision.
        Conflict: what was written does not verify as a refusal.
        Unavailable: the disk, the keys or the log failed; what is done is kept, try again.
    """
    sealing.check_refused()
    attesting = Attesting(folder / layout.REFUSAL, sealing, keys, notaries or Notaries())
    trust = attesting.trust

    def check(attestations: Path) -> None:
        found = verify(folder / layout.RELEASE, attestations, trust=trust, at=at)
        codes = {step.code for step in found.reasons}
        if "NOT_PASSED" not in codes or not codes <= _EXPECTED_OF_A_REFUSAL | {"MISSING"}:
            raise Conflict(f"the refusal in {attestations} does not verify: {', '.join(sorted(codes))}")

    _attest(attesting, log, at, check)
    return read_folder(folder / layout.REFUSAL).files


def _attest(attesting: Attesting, log: Log, at: Moment, check: Callable[[Path], None]) -> None:
    """Make the folder of attestations, unless it is there; it gets its name when it is whole and checked."""
    final = attesting.folder
    if final.exists():
        return
    partial = final.with_name(f"{final.name}.partial")
    replace(attesting, folder=partial).finish(log, at)
    check(partial)
    layout.publish(partial, final)


def _check_files(folder: Path, sealing: Sealing) -> None:
    found = read_folder(folder)
    faults = (*found.faults, *differences(sealing.candidate.files, found.files))
    if faults:
        raise InvalidInput(f"the files in {folder} are not the candidate's", (str(fault) for fault in faults))


def _must_be_valid(found: Verification, attestations: Path) -> None:
    if found.verdict != "VALID":
        told = "; ".join(f"{step.step}: {step.code} {step.detail}" for step in found.reasons)
        raise Conflict(f"the release in {attestations.parent} does not verify and is not published: {told}")
