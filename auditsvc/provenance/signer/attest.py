"""Signing: an approved candidate becomes a release that anyone can verify; a rejected one a signed rejection.

Everything is written into ``attest.partial`` first.  The folder is renamed to ``attest`` only after the public verifier
found it ``VALID``; until then there is no release, and nothing that was not logged is ever published.

Each output is stored before the next is made, and an interrupted run reuses what is stored: ECDSA gives another
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
from auditsvc.provenance.formats.dsse import Bundle, LogEntry, check_p256, der_of, entry_body, hint_of
from auditsvc.provenance.formats.manifest import differences, read_folder, strip_prefix
from auditsvc.provenance.formats.predicates import (
    AppliedWaiver,
    ApprovalEntry,
    DigestSet,
    Named,
    PolicyRef,
    ReleaseField,
    Summary,
    Verifier,
    folder_statement,
    identity_of,
    policy_uri,
    resource_uri,
)
from auditsvc.provenance.formats.signed_note import Checkpoint, NoteKey, sign_checkpoint
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.trust.trust_root import StatementRole, TrustRoot, log_origin
from auditsvc.provenance.verifier.verify import release_in, summary_in, verify
from auditsvc.records import (
    DecisionRecords,
    Digest,
    Evidence,
    FileEntry,
    Moment,
    Record,
    Release,
    Verification,
    digest_of,
    person_key,
)
from auditsvc.records.cyclonedx import bill_of_materials
from auditsvc.records.decision import missing_consent

MAX_FILES = 1000
"""Statements name every file, and common verifiers read at most 1024 subjects."""
_SIGNED_BY: dict[str, StatementRole] = {"oms": "release", "vsa": "release", "provenance": "build"}
_REJECTION_CODES = {"NOT_PASSED", "MISSING_ATTESTATION", "INPUT_MISMATCH", "APPROVALS"}


@dataclass(frozen=True)
class ReleaseInputs(DecisionRecords):
    """All that a release is made of."""

    def check(self, at: Moment) -> None:
        """The records belong together, and enough people approved.

        Raises:
            NotApproved: no approved decision on this candidate under this policy, too few approvals, an
                approval by the submitter or of another decision, or a waiver that has run out.
            InvalidInput: evidence, waivers or a parent that the decision does not rest on.
        """
        missing = (*self._mismatches(), *self._missing(at))
        if missing:
            raise NotApproved(f"{self.model} version {self.version} is not approved: {'; '.join(missing)}")
        self._check_fit(())

    def check_rejected(self) -> None:
        """Everything belongs together, and the decision is against a release.

        Raises:
            InvalidInput: records that do not fit together, or an approved decision.
        """
        self._check_fit(self._mismatches())
        if self.decision.outcome == "approved" and not self.candidate.only_predictions:
            raise InvalidInput(f"the decision on {self.model} version {self.version} is approved; release it instead")

    def _check_fit(self, more: Iterable[str]) -> None:
        unrelated = (*more, *self._unrelated())
        if unrelated:
            raise InvalidInput(f"{self.model} version {self.version}: the records do not fit together", unrelated)

    def _mismatches(self) -> Iterator[str]:
        if self.decision.candidate != self.candidate.digest:
            yield "the decision is about another candidate"
        if self.decision.policy != self.policy.digest:
            yield "the decision was made under another policy"
        if self.decision.terms != (self.terms.digest if self.terms else None):
            yield "the decision was made under other terms"

    def _unrelated(self) -> Iterator[str]:
        if not 0 < len(self.candidate.files) <= MAX_FILES:
            yield f"a release has 1 to {MAX_FILES} files, not {len(self.candidate.files)}"
        if self.candidate.model != self.model:
            yield f"the candidate is of the model {self.candidate.model}"
        if self.candidate.parent != self.parent.digest:
            yield "the parent is not the one that the candidate names"
        if {item.digest for item in self.evidence} != set(self.decision.evidence):
            yield "the evidence is not that of the decision"
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
        people = {person_key(approval.approver) for approval in valid}
        if person_key(self.submitter) in people:
            yield f"{self.submitter} submitted it and cannot approve it"
        yield from missing_consent(self.consent, people - {person_key(waiver.person) for waiver in self.waivers})
        for waiver in self.waivers:
            if waiver.until < at.date():
                yield f"the waiver of {waiver.rule} by {waiver.person} ran out on {waiver.until}"

    def summary(
        self,
        inputs: Mapping[str, Digest],
        records: Mapping[str, Digest],
        signed_at: Moment,
        *,
        verifier: str,
        public_url: str = "",
    ) -> Summary:
        """The summary; ``inputs`` are digests of payloads, ``records`` of the record files in ``attest``."""
        policy = self.policy.digest
        passed = self.decision.outcome == "approved"
        return Summary(
            verifier=Verifier(id=verifier, version={"auditsvc": __version__}),
            time_verified=self.decision.at,
            resource_uri=resource_uri(self.model, self.version),
            policy=PolicyRef(uri=policy_uri(policy, public_url), digest=DigestSet(sha256=strip_prefix(policy))),
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
                    ApprovalEntry(approver=item.approver, record=item.digest, at=item.at) for item in self.approvals
                ),
                approvals_needed=str(self.consent.approvals),
                waivers=tuple(
                    AppliedWaiver(rule=w.rule, person=w.person, record=w.digest, reason=w.reason, until=w.until)
                    for w in self.waivers
                ),
                terms=self.decision.terms,
                data=self.decision.data,
                earlier=self.earlier or None,
                signed_at=signed_at,
                files=_named(records),
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
    """The services that a signing run uses besides the keys.

    ``cosign`` collects the witnesses' signatures on a checkpoint; ``stamp`` requests a timestamp over a signature,
    where an authority is configured; ``trust`` is the trust policy written into the release, by default the keys alone.
    """

    cosign: Callable[[str], str] = unwitnessed
    stamp: Callable[[bytes], bytes] | None = None
    trust: TrustRoot | None = None
    public_url: str = ""
    """The installation's address, under which statements name the policy; empty: a URN by its digest."""


@dataclass(frozen=True)
class Attestor:
    """The attestations of one decision, in an unpublished folder."""

    folder: Path
    inputs: ReleaseInputs
    keys: Keys

    services: SigningServices = SigningServices()

    @property
    def trust(self) -> TrustRoot:
        """The trust policy that is written into the release."""
        return self.services.trust or TrustRoot.of_keys(self.keys)

    def finish(self, log: Log, at: Moment) -> None:
        """Run all steps in order; those that are done already are skipped.

        Raises:
            Unavailable: the disk, the keys or the log failed; finished steps are kept.
        """
        inputs = self.inputs
        records = self._records()
        for name, data in records.items():
            if release_layout.read_or_none(self.folder / name) != data:
                release_layout.write_whole(self.folder / name, data)
        signed = {name: self._signed(name, payload) for name, payload in self._statements().items()}
        payloads = {name: bundle.payload_digest for name, bundle in signed.items()}
        signed_at = self._signed_before() or at
        summary = inputs.summary(
            payloads,
            {name: digest_of(data) for name, data in records.items()},
            signed_at,
            verifier=self._identity("verifier", "release"),
            public_url=self.services.public_url,
        )
        payload = predicates.summary_statement(inputs.candidate, summary.predicate())
        signed["vsa"] = self._signed("vsa", payload)
        self._log(signed, log)
        release_layout.sweep(self.folder, [*records, *(name + release_layout.SUFFIX for name in signed)])

    def _records(self) -> dict[str, bytes]:
        inputs = self.inputs
        records: dict[str, Record] = {
            release_layout.CANDIDATE: inputs.candidate,
            release_layout.PARENT: inputs.parent,
            release_layout.POLICY: inputs.policy,
            release_layout.DECISION: inputs.decision,
        }
        if inputs.terms:
            records[release_layout.TERMS] = inputs.terms
        for name, item in release_layout.evidence_names(inputs.evidence).items():
            records[f"{release_layout.EVIDENCE}/{name}.json"] = item
        for waiver in inputs.waivers:
            records[f"{release_layout.WAIVERS}/{waiver.digest[7:19]}.json"] = waiver
        files = {name: record.canonical() for name, record in records.items()}
        return files | {release_layout.TRUST_POLICY: self.trust.to_json()}

    def _statements(self) -> dict[str, bytes]:
        """Every statement but the summary.  A rejected model gets no OMS signature, which other tools would accept."""
        inputs = self.inputs
        candidate, decision = inputs.candidate, inputs.decision
        document = bill_of_materials(
            candidate, inputs.version, inputs.parent, inputs.evidence, decision, inputs.made_from
        )
        made = {
            "provenance": predicates.provenance_statement(
                candidate, inputs.parent, __version__, self._identity("builder", "build")
            ),
            "bom": predicates.bom_statement(candidate, document),
        }
        if decision.outcome == "approved" and not candidate.only_predictions:
            made["oms"] = predicates.oms_statement(candidate)
        for name, item in release_layout.evidence_names(inputs.evidence).items():
            path = f"{release_layout.EVIDENCE}/{name}.json"
            made[release_layout.AUDIT + name] = predicates.result_statement(
                candidate, item, decision, policy_uri(decision.policy, self.services.public_url), path
            )
        return made

    def _identity(self, name: str, role: StatementRole) -> str:
        return identity_of(name, hint_of(self.keys.signer(role).public_pem))

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
        stamp = self.services.stamp
        bundle = Bundle(unsigned.hint, payload, signature, (), (stamp(signature),) if stamp else ())
        release_layout.write_whole(self.folder / (name + release_layout.SUFFIX), bundle.to_json())
        return bundle

    def _signed_before(self) -> Moment | None:
        """The time that an interrupted run has signed already."""
        stored = self._stored("vsa")
        try:
            return summary_in(stored).release.signed_at if stored else None
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
        checkpoint = self.services.cosign(sign_checkpoint(Checkpoint(origin, size, root), signer))
        log_id = NoteKey.of_pem(origin, signer.public_pem).full_id
        for name, bundle in signed.items():
            proof = log.inclusion(indices[name], size)
            entry = LogEntry(indices[name], log_id, root, size, proof, checkpoint, leaves[name])
            release_layout.write_whole(self.folder / (name + release_layout.SUFFIX), bundle.logged(entry).to_json())


def sign_release(
    folder: Path,
    inputs: ReleaseInputs,
    *,
    keys: Keys,
    log: Log,
    at: Moment,
    services: SigningServices | None = None,
) -> Release:
    """Sign, attest and log the candidate in ``folder/release``; its release.

    Doing it again gives the same release: a finished one is verified and returned, an interrupted one is
    finished with the signatures that it has.

    Raises:
        NotApproved: the decision or the approvals do not allow it.
        InvalidInput: records that do not fit together, or files that are not the candidate's.
        Conflict: the folder holds another release already, or the result does not verify.
        Unavailable: the disk, the keys or the log failed; finished steps are kept, try again.
    """
    inputs.check(at)
    _check_files(folder / release_layout.RELEASE, inputs)
    attestor = Attestor(folder / release_layout.ATTEST, inputs, keys, services or SigningServices())
    trust = attestor.trust

    def check(attestations: Path) -> None:
        _must_be_valid(verify(folder / release_layout.RELEASE, attestations, trust=trust, at=at), attestations)

    _attest(attestor, log, at, check)
    release = release_in(folder / release_layout.RELEASE, folder / release_layout.ATTEST)
    wanted = (
        inputs.model,
        inputs.version,
        inputs.candidate.digest,
        inputs.decision.digest,
    )
    if (release.model, release.version, release.candidate, release.decision) != wanted:
        raise Conflict(f"{folder} holds the release of another decision; sign into another folder")
    check(folder / release_layout.ATTEST)
    return release


def sign_rejection(
    folder: Path,
    inputs: ReleaseInputs,
    *,
    keys: Keys,
    log: Log,
    at: Moment,
    services: SigningServices | None = None,
) -> tuple[FileEntry, ...]:
    """Sign, attest and log a rejection in ``folder/refusal``; its files.

    The model gets no OMS signature, so that no other tool takes it for released; the summary says ``FAILED``.  Any
    decision on predictions is signed so too, as their files are never released.

    Raises:
        InvalidInput: records that do not fit together, or an approved decision.
        Conflict: the result does not verify as a rejection.
        Unavailable: the disk, the keys or the log failed; finished steps are kept, try again.
    """
    inputs.check_rejected()
    attestor = Attestor(folder / release_layout.REJECTION, inputs, keys, services or SigningServices())
    trust = attestor.trust
    needed = "MISSING_ATTESTATION" if inputs.decision.outcome == "approved" else "NOT_PASSED"

    def check(attestations: Path) -> None:
        found = verify(folder / release_layout.RELEASE, attestations, trust=trust, at=at)
        codes = {step.code for step in found.reasons}
        if needed not in codes or not codes <= _REJECTION_CODES | {"MISSING"}:
            raise Conflict(f"the rejection in {attestations} does not verify: {', '.join(sorted(codes))}")

    _attest(attestor, log, at, check)
    return read_folder(folder / release_layout.REJECTION).files


def _attest(attestor: Attestor, log: Log, at: Moment, check: Callable[[Path], None]) -> None:
    """Create the folder of attestations, unless it exists; it is renamed when it is complete and verified."""
    final = attestor.folder
    if final.exists():
        return
    partial = final.with_name(f"{final.name}.partial")
    replace(attestor, folder=partial).finish(log, at)
    check(partial)
    release_layout.publish(partial, final)


def _check_files(folder: Path, inputs: ReleaseInputs) -> None:
    found = read_folder(folder)
    faults = (*found.faults, *differences(inputs.candidate.files, found.files))
    if faults:
        raise InvalidInput(f"the files in {folder} are not the candidate's", (str(fault) for fault in faults))


def _must_be_valid(found: Verification, attestations: Path) -> None:
    if found.verdict != "VALID":
        message = "; ".join(f"{step.step}: {step.code} {step.detail}" for step in found.reasons)
        raise Conflict(f"the release in {attestations.parent} does not verify and is not published: {message}")


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
