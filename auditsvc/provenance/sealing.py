"""Sealing: an approved candidate becomes a release that strangers can verify.

Crash safe: everything is written into ``attest.partial`` in steps (sign, log, verify), each stored
before the next begins, and a signature that is stored is used again.  The folder is renamed to
``attest`` only after the public verifier found the result ``VALID``; until then there is no release,
and nothing that was not logged is ever published.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auditsvc import __version__
from auditsvc.errors import Conflict, InvalidInput
from auditsvc.ports import Keys, Log
from auditsvc.provenance import layout
from auditsvc.provenance.approved import Sealing
from auditsvc.provenance.dsse import Bundle, LogEntry, entry_body
from auditsvc.provenance.manifest import differences, read_folder
from auditsvc.provenance.notes import Checkpoint, NoteKey, sign_checkpoint
from auditsvc.provenance.signatures import check_p256, der_of, hint_of
from auditsvc.provenance.statements import oms_statement, provenance_statement, summary_statement, result_statement
from auditsvc.provenance.strict import Fault
from auditsvc.provenance.trust import StatementRole, TrustRoot, log_origin
from auditsvc.provenance.verifying import release_in, summary_in, verify
from auditsvc.records import Moment, Record, Release, digest_of

_MAKERS: dict[str, StatementRole] = {"oms": "release", "vsa": "release", "provenance": "build", "bom": "audit"}


def seal(folder: Path, sealing: Sealing, *, keys: Keys, log: Log, at: Moment) -> Release:
    """Sign, attest and log the candidate in ``folder/release``; its release.

    Doing it again gives the same release: a finished one is verified and returned, an interrupted one is
    finished with the signatures that it has.

    Raises:
        NotApproved: the decision or the approvals do not allow it.
        InvalidInput: records that do not fit together, or files that are not the candidate's.
        Conflict: the folder holds another release already.
        Unavailable: the disk, the keys or the log failed; what is done is kept, try again.
    """
    sealing.check(at)
    _check_files(folder / layout.RELEASE, sealing)
    trust = TrustRoot.of_keys(keys)
    if not (folder / layout.ATTEST).exists():
        _Work(folder / layout.PARTIAL, sealing, keys).finish(log, trust, at)
        _self_verify(folder / layout.RELEASE, folder / layout.PARTIAL, trust, at)
        layout.publish(folder / layout.PARTIAL, folder / layout.ATTEST)
    release = release_in(folder / layout.RELEASE, folder / layout.ATTEST)
    wanted = (sealing.model, sealing.version, sealing.candidate.digest, sealing.decision.digest)
    if (release.model, release.version, release.candidate, release.decision) != wanted:
        raise Conflict(f"{folder} holds the release of another decision; seal into a folder of its own")
    _self_verify(folder / layout.RELEASE, folder / layout.ATTEST, trust, at)
    return release


def _check_files(folder: Path, sealing: Sealing) -> None:
    found = read_folder(folder)
    faults = (*found.faults, *differences(sealing.candidate.files, found.files))
    if faults:
        raise InvalidInput(f"the files in {folder} are not the candidate's", (str(fault) for fault in faults))


def _self_verify(files: Path, attestations: Path, trust: TrustRoot, at: Moment) -> None:
    found = verify(files, attestations, trust=trust, at=at)
    if found.verdict != "VALID":
        told = "; ".join(f"{step.step}: {step.code} {step.detail}" for step in found.reasons)
        raise Conflict(f"the release in {attestations.parent} does not verify and is not published: {told}")


@dataclass(frozen=True)
class _Work:
    """The unfinished attestations of one release."""

    folder: Path
    sealing: Sealing
    keys: Keys

    def finish(self, log: Log, trust: TrustRoot, at: Moment) -> None:
        """All steps, in order; those that are done already are found again."""
        beside = self._beside(trust)
        for name, data in beside.items():
            if layout.read_or_none(self.folder / name) != data:
                layout.write_whole(self.folder / name, data)
        signed = {name: self._signed(name, payload) for name, payload in self._statements().items()}
        inputs = {name: bundle.payload_digest for name, bundle in signed.items()}
        sealed = self._sealed_before() or at
        summary = self.sealing.summary(inputs, {name: digest_of(data) for name, data in beside.items()}, sealed)
        signed["vsa"] = self._signed("vsa", summary_statement(self.sealing.candidate, summary.predicate()))
        self._log(signed, log)
        layout.sweep(self.folder, [*beside, *(name + layout.SUFFIX for name in signed)])

    def _beside(self, trust: TrustRoot) -> dict[str, bytes]:
        sealing = self.sealing
        records: dict[str, Record] = {
            layout.CANDIDATE: sealing.candidate,
            layout.PARENT: sealing.parent,
            layout.POLICY: sealing.policy,
            layout.DECISION: sealing.decision,
        }
        for name, item in layout.evidence_names(sealing.evidence).items():
            records[f"{layout.EVIDENCE}/{name}.json"] = item
        for waiver in sealing.waivers:
            records[f"{layout.WAIVERS}/{waiver.digest[7:19]}.json"] = waiver
        files = {name: record.canonical() for name, record in records.items()}
        return files | {layout.TRUST_POLICY: trust.to_json()}

    def _statements(self) -> dict[str, bytes]:
        sealing = self.sealing
        made = {
            "oms": oms_statement(sealing.candidate),
            "provenance": provenance_statement(sealing.candidate, sealing.parent, __version__),
        }
        for name, item in layout.evidence_names(sealing.evidence).items():
            path = f"{layout.EVIDENCE}/{name}.json"
            made[layout.AUDIT + name] = result_statement(
                sealing.candidate, item, sealing.decision, sealing.policy, path
            )
        return made

    def _stored(self, name: str) -> Bundle | None:
        data = layout.read_or_none(self.folder / (name + layout.SUFFIX))
        try:
            return Bundle.parse(data) if data is not None else None
        except Fault:
            return None

    def _signed(self, name: str, payload: bytes) -> Bundle:
        """The stored bundle, if its signature is over these bytes; else a new one, stored."""
        signer = self.keys.signer(_MAKERS.get(name, "audit"))
        stored = self._stored(name)
        if stored and stored.payload == payload and stored.hint == hint_of(signer.public_pem):
            try:
                check_p256(signer.public_pem, stored.signature, stored.signed_bytes)
            except Fault:
                pass
            else:
                return stored
        unsigned = Bundle(hint_of(signer.public_pem), payload, b"")
        bundle = Bundle(unsigned.hint, payload, signer.sign(unsigned.signed_bytes))
        layout.write_whole(self.folder / (name + layout.SUFFIX), bundle.to_json())
        return bundle

    def _sealed_before(self) -> Moment | None:
        """The time of sealing that an interrupted run has signed already."""
        stored = self._stored("vsa")
        try:
            return summary_in(stored).release.sealed if stored else None
        except Fault:
            return None

    def _log(self, signed: dict[str, Bundle], log: Log) -> None:
        """Log every signature, and store the proofs under one checkpoint."""
        leaves = {
            name: entry_body(bundle, der_of(self.keys.signer(_MAKERS.get(name, "audit")).public_pem))
            for name, bundle in signed.items()
        }
        indices = {name: log.append_leaf(leaf) for name, leaf in leaves.items()}
        size = log.size()
        root = log.root(size)
        signer = self.keys.signer("log")
        origin = log_origin(self.keys)
        checkpoint = sign_checkpoint(Checkpoint(origin, size, root), signer)
        log_id = NoteKey.of_pem(origin, signer.public_pem).full_id
        for name, bundle in signed.items():
            proof = log.inclusion(indices[name], size)
            entry = LogEntry(indices[name], log_id, root, size, proof, checkpoint, leaves[name])
            layout.write_whole(self.folder / (name + layout.SUFFIX), bundle.logged(entry).to_json())
