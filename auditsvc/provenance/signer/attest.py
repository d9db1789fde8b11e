"""Sealing: an approved candidate becomes a release that strangers can verify.

Everything is written into ``attest.partial`` first (see ``attesting``).  The folder is renamed to
``attest`` only after the public verifier found the result ``VALID``; until then there is no release,
and nothing that was not logged is ever published.

What may be sealed: a candidate with its decision, evidence and approvals, all about each other.

The work behind a seal: write the records, sign every statement, log every signature.

Each output is stored before the next is made, and what is stored is used again: ECDSA gives another
signature every time, and a signature that may be in the log already must not be replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from auditsvc import __version__
from auditsvc.errors import Conflict, InvalidInput, NotApproved
from auditsvc.ports import Keys, Log, Signer
from auditsvc.provenance.formats import predicates, release_layout
from auditsvc.provenance.formats.dsse import Bundle, LogEntry, entry_body
from auditsvc.provenance.formats.manifest import differences, read_folder
from auditsvc.provenance.formats.oms import strip_prefix
from auditsvc.provenance.formats.predicates import VERIFIER_ID, folder_statement, policy_uri, resource_uri
from auditsvc.provenance.formats.signatures import check_p256, der_of, hint_of
from auditsvc.provenance.formats.signed_note import Checkpoint, NoteKey, sign_checkpoint
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.formats.verification_summary import (
    AppliedWaiver,
    Consent,
    DigestSet,
    Named,
    PolicyRef,
    ReleaseField,
    Summary,
    Verifier,
)
from auditsvc.provenance.trust.trust_root import StatementRole, TrustRoot, log_origin
from auditsvc.provenance.verifier.verify import release_in, summary_in, verify
from auditsvc.records import (
    Approval,
    Candidate,
    Decision,
    Digest,
    Evidence,
    FileEntry,
    Moment,
    Parent,
    Policy,
    Record,
    Release,
    Verification,
    Waiver,
    digest_of,
)
from auditsvc.records.cyclonedx import bill_of_materials
from auditsvc.records.decision import missing_consent

MAX_FILES = 1000
"""Statements name every file, and common verifiers read at most 1024 subjects."""
_SIGNED_BY: dict[str, StatementRole] = {"oms": "release", "vsa": "release", "provenance": "build"}
_EXPECTED_OF_A_REFUSAL = {"NOT_PASSED", "MISSING_ATTESTATION", "INPUT_MISMATCH", "APPROVALS"}


@dataclass(frozen=True)
class ReleaseInputs:
    """All that a release is made of."""

    model: str
    version: str
    candidate: Candidate
    parent: Parent
    policy: Policy
    decision: Decision
    evidence: tuple[Evidence, ...]
    approvals: tuple[Approval, ...]
    waivers: tuple[Waiver, ...]
    submitter: str

    def check(self, at: Moment) -> None:
        """Everything belongs together, and two people stand behind it.

        Raises:
            NotApproved: no approved decision on this candidate under this policy, too few approvals, an
                approval by the submitter or of another decision, or a waiver that has run out.
            InvalidInput: evidence, waivers or a parent that the decision does not rest on.
        """
        missing = (*self._unbound(), *self._missing(at))
        if missing:
            raise NotApproved(f"{self.model} version {self.version} is not approved: {'; '.join(missing)}")
        self._check_fit(())

    def check_refused(self) -> None:
        """Everything belongs together, and the decision is against a release.

        Raises:
            InvalidInput: records that do not fit together, or an approved decision.
        """
        self._check_fit(self._unbound())
        if self.decision.outcome == "approved":
            raise InvalidInput(f"the decision on {self.model} version {self.version} is approved; seal it instead")

    def _check_fit(self, more: Iterable[str]) -> None:
        strangers = (*more, *self._strangers())
        if strangers:
            raise InvalidInput(f"{self.model} version {self.version}: the records do not fit together", strangers)

    def _unbound(self) -> Iterator[str]:
        if self.decision.candidate != self.candidate.digest:
            yield "the decision is about another candidate"
        if self.decision.policy != self.policy.digest:
            yield "the decision was made under another policy"

    def _strangers(self) -> Iterator[str]:
        if not 0 < len(self.candidate.files) <= MAX_FILES:
            yield f"a release has 1 to {MAX_FILES} files, not {len(self.candidate.files)}"
        if self.candidate.model != self.model:
            yield f"the candidate is of the model {self.candidate.model}"
        if self.candidate.parent != self.parent.digest:
            yield "the parent is not the one that the candidate names"
        if {item.digest for item in self.evidence} != set(self.decision.evidence):
            yield "the evidence is not the one that the decision rests on"
        if any(item.key.candidate != self.candidate.digest for item in self.evidence):
            yield "some evidence is about another candidate"
        if {waiver.digest for waiver in self.waivers} != set(self.decision.waivers):
            yield "the waivers are not those that the decision used"

    def _missing(self, at: Moment) -> Iterator[str]:
        decision = self.decision
        if decision.outcome != "approved":
            yield f"the decision is {decision.outcome}"
        valid = [approval for approval in self.approvals if approval.decision == decision.digest]
        if len(valid) != len(self.approvals) or any(a.candidate != decision.candidate for a in valid):
            yield "an approval is of another decision"
        people = {approval.approver.casefold() for approval in valid}
        if self.submitter.casefold() in people:
            yield f"{self.submitter} submitted it and cannot approve it"
        yield from missing_consent(self.policy, people)
        for waiver in self.waivers:
            if waiver.until < at.date():
                yield f"the waiver of {waiver.rule} by {waiver.person} ran out on {waiver.until}"

    def summary(self, inputs: Mapping[str, Digest], beside: Mapping[str, Digest], sealed: Moment) -> Summary:
        """The verification summary; ``inputs`` are payload digests, ``beside`` digests of files in ``attest``."""
        passed = self.decision.outcome == "approved"
        return Summary(
            verifier=Verifier(id=VERIFIER_ID, version={"auditsvc": __version__}),
            time_verified=self.decision.at,
            resource_uri=resource_uri(self.model, self.version),
            policy=PolicyRef(uri=policy_uri(self.policy), digest=DigestSet(sha256=strip_prefix(self.policy.digest))),
            inputs=_named(inputs),
            result="PASSED" if passed else "FAILED",
            levels=("SLSA_BUILD_LEVEL_1", *_levels(self.evidence)) if passed else ("FAILED",),
            release=ReleaseField(
                model=self.model,
                version=self.version,
                candidate=self.candidate.digest,
                decision=self.decision.digest,
                submitter=self.submitter,
                approvals=tuple(
                    Consent(approver=item.approver, record=item.digest, at=item.at) for item in self.approvals
                ),
                approvals_needed=str(self.policy.approvals),
                waivers=tuple(
                    AppliedWaiver(rule=w.rule, person=w.person, record=w.digest, reason=w.reason, until=w.until)
                    for w in self.waivers
                ),
                sealed=sealed,
                beside=_named(beside),
            ),
        )


def _named(digests: Mapping[str, Digest]) -> tuple[Named, ...]:
    return tuple(Named(name=name, digest=DigestSet(sha256=strip_prefix(digests[name]))) for name in sorted(digests))


def _levels(evidence: tuple[Evidence, ...]) -> tuple[str, ...]:
    checks = sorted({item.key.check for item in evidence})
    return tuple(f"AUDITSVC_{check.upper().replace('-', '_')}_JUDGED" for check in checks)


def unwitnessed(envelope: str) -> str:
    """The checkpoint as it is: there is no witness."""
    return envelope


@dataclass(frozen=True)
class SigningServices:
    """Who stands behind a seal besides the keys.

    ``cosign`` brings a checkpoint to the witnesses and gives it back with their lines under it; ``stamp`` gives a
    time stamp over a signature, if there is an authority; ``trust`` is what readers are told to trust, by default
    the keys alone.
    """

    cosign: Callable[[str], str] = unwitnessed
    stamp: Callable[[bytes], bytes] | None = None
    trust: TrustRoot | None = None


@dataclass(frozen=True)
class Attestor:
    """The unfinished attestations of one decision, in a folder that nobody reads yet."""

    folder: Path
    sealing: ReleaseInputs
    keys: Keys

    notaries: SigningServices = SigningServices()

    @property
    def trust(self) -> TrustRoot:
        """What readers are told to trust."""
        return self.notaries.trust or TrustRoot.of_keys(self.keys)

    def finish(self, log: Log, at: Moment) -> None:
        """All steps, in order; those that are done already are found again.

        Raises:
            Unavailable: the disk, the keys or the log failed; what is done is kept.
        """
        sealing = self.sealing
        beside = self._records()
        for name, data in beside.items():
            if release_layout.read_or_none(self.folder / name) != data:
                release_layout.write_whole(self.folder / name, data)
        signed = {name: self._signed(name, payload) for name, payload in self._statements().items()}
        inputs = {name: bundle.payload_digest for name, bundle in signed.items()}
        sealed = self._sealed_before() or at
        summary = sealing.summary(inputs, {name: digest_of(data) for name, data in beside.items()}, sealed)
        payload = predicates.summary_statement(sealing.candidate, summary.predicate())
        signed["vsa"] = self._signed("vsa", payload)
        self._log(signed, log)
        release_layout.sweep(self.folder, [*beside, *(name + release_layout.SUFFIX for name in signed)])

    def _records(self) -> dict[str, bytes]:
        sealing = self.sealing
        records: dict[str, Record] = {
            release_layout.CANDIDATE: sealing.candidate,
            release_layout.PARENT: sealing.parent,
            release_layout.POLICY: sealing.policy,
            release_layout.DECISION: sealing.decision,
        }
        for name, item in release_layout.evidence_names(sealing.evidence).items():
            records[f"{release_layout.EVIDENCE}/{name}.json"] = item
        for waiver in sealing.waivers:
            records[f"{release_layout.WAIVERS}/{waiver.digest[7:19]}.json"] = waiver
        files = {name: record.canonical() for name, record in records.items()}
        return files | {release_layout.TRUST_POLICY: self.trust.to_json()}

    def _statements(self) -> dict[str, bytes]:
        """Every statement but the summary.  A refused model gets no OMS signature: that alone would look valid."""
        sealing = self.sealing
        candidate, decision = sealing.candidate, sealing.decision
        document = bill_of_materials(candidate, sealing.version, sealing.parent, sealing.evidence, decision)
        made = {
            "provenance": predicates.provenance_statement(candidate, sealing.parent, __version__),
            "bom": predicates.bom_statement(candidate, document),
        }
        if decision.outcome == "approved":
            made["oms"] = predicates.oms_statement(candidate)
        for name, item in release_layout.evidence_names(sealing.evidence).items():
            path = f"{release_layout.EVIDENCE}/{name}.json"
            made[release_layout.AUDIT + name] = predicates.result_statement(
                candidate, item, decision, sealing.policy, path
            )
        return made

    def _stored(self, name: str) -> Bundle | None:
        data = release_layout.read_or_none(self.folder / (name + release_layout.SUFFIX))
        try:
            return Bundle.parse(data) if data is not None else None
        except Fault:
            return None

    def _signed(self, name: str, payload: bytes) -> Bundle:
        """The stored bundle, if its signature is over these bytes; else a new one, stored."""
        signer = self.keys.signer(_SIGNED_BY.get(name, "audit"))
        stored = self._stored(name)
        if stored and stored.payload == payload and stored.hint == hint_of(signer.public_pem):
            try:
                check_p256(signer.public_pem, stored.signature, stored.signed_bytes)
            except Fault:
                stored = None
            else:
                return stored
        unsigned = Bundle(hint_of(signer.public_pem), payload, b"")
        signature = signer.sign(unsigned.signed_bytes)
        stamp = self.notaries.stamp
        bundle = Bundle(unsigned.hint, payload, signature, (), (stamp(signature),) if stamp else ())
        release_layout.write_whole(self.folder / (name + release_layout.SUFFIX), bundle.to_json())
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
            name: entry_body(bundle, der_of(self.keys.signer(_SIGNED_BY.get(name, "audit")).public_pem))
            for name, bundle in signed.items()
        }
        indices = {name: log.append_leaf(leaf) for name, leaf in leaves.items()}
        size = log.size()
        root = log.root(size)
        signer = self.keys.signer("log")
        origin = log_origin(self.keys)
        checkpoint = self.notaries.cosign(sign_checkpoint(Checkpoint(origin, size, root), signer))
        log_id = NoteKey.of_pem(origin, signer.public_pem).full_id
        for name, bundle in signed.items():
            proof = log.inclusion(indices[name], size)
            entry = LogEntry(indices[name], log_id, root, size, proof, checkpoint, leaves[name])
            release_layout.write_whole(self.folder / (name + release_layout.SUFFIX), bundle.logged(entry).to_json())


def sign_release(
    folder: Path, sealing: ReleaseInputs, *, keys: Keys, log: Log, at: Moment, notaries: SigningServices | None = None
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
    _check_files(folder / release_layout.RELEASE, sealing)
    attesting = Attestor(folder / release_layout.ATTEST, sealing, keys, notaries or SigningServices())
    trust = attesting.trust

    def check(attestations: Path) -> None:
        _must_be_valid(verify(folder / release_layout.RELEASE, attestations, trust=trust, at=at), attestations)

    _attest(attesting, log, at, check)
    release = release_in(folder / release_layout.RELEASE, folder / release_layout.ATTEST)
    wanted = (sealing.model, sealing.version, sealing.candidate.digest, sealing.decision.digest)
    if (release.model, release.version, release.candidate, release.decision) != wanted:
        raise Conflict(f"{folder} holds the release of another decision; seal into a folder of its own")
    check(folder / release_layout.ATTEST)
    return release


def sign_rejection(
    folder: Path, sealing: ReleaseInputs, *, keys: Keys, log: Log, at: Moment, notaries: SigningServices | None = None
) -> tuple[FileEntry, ...]:
    """Sign, attest and log a decision against a release, in ``folder/refusal``; its files.

    The model gets no OMS signature, so that no other tool takes it for released; the summary says ``FAILED``.

    Raises:
        InvalidInput: records that do not fit together, or an approved decision.
        Conflict: what was written does not verify as a refusal.
        Unavailable: the disk, the keys or the log failed; what is done is kept, try again.
    """
    sealing.check_refused()
    attesting = Attestor(folder / release_layout.REFUSAL, sealing, keys, notaries or SigningServices())
    trust = attesting.trust

    def check(attestations: Path) -> None:
        found = verify(folder / release_layout.RELEASE, attestations, trust=trust, at=at)
        codes = {step.code for step in found.reasons}
        if "NOT_PASSED" not in codes or not codes <= _EXPECTED_OF_A_REFUSAL | {"MISSING"}:
            raise Conflict(f"the refusal in {attestations} does not verify: {', '.join(sorted(codes))}")

    _attest(attesting, log, at, check)
    return read_folder(folder / release_layout.REFUSAL).files


def _attest(attesting: Attestor, log: Log, at: Moment, check: Callable[[Path], None]) -> None:
    """Make the folder of attestations, unless it is there; it gets its name when it is whole and checked."""
    final = attesting.folder
    if final.exists():
        return
    partial = final.with_name(f"{final.name}.partial")
    replace(attesting, folder=partial).finish(log, at)
    check(partial)
    release_layout.publish(partial, final)


def _check_files(folder: Path, sealing: ReleaseInputs) -> None:
    found = read_folder(folder)
    faults = (*found.faults, *differences(sealing.candidate.files, found.files))
    if faults:
        raise InvalidInput(f"the files in {folder} are not the candidate's", (str(fault) for fault in faults))


def _must_be_valid(found: Verification, attestations: Path) -> None:
    if found.verdict != "VALID":
        told = "; ".join(f"{step.step}: {step.code} {step.detail}" for step in found.reasons)
        raise Conflict(f"the release in {attestations.parent} does not verify and is not published: {told}")


def sign_folder(folder: Path, signer: Signer, name: str) -> bytes:
    """The signature (a Sigstore bundle) over every file of a folder, under this name.

    Raises:
        InvalidInput: an empty folder, or something in it that cannot be signed: links, pipes, bad names.
        Unavailable: the disk can't be read.
    """
    found = read_folder(folder)
    if found.faults or not found.files:
        reasons = [str(fault) for fault in found.faults] or ["there is no file in it"]
        raise InvalidInput(f"{folder} cannot be signed", reasons)
    unsigned = Bundle(hint_of(signer.public_pem), folder_statement(name, found.files), b"")
    return Bundle(unsigned.hint, unsigned.payload, signer.sign(unsigned.signed_bytes)).to_json()
