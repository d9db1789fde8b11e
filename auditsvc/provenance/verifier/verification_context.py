"""The state of a verification: the input, the attestations with valid signatures, and the report of every step.

Each attestation is checked against the trust root: key, role, signature, inclusion in the log, validity of the key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from auditsvc.errors import InvalidInput
from auditsvc.provenance.formats import release_layout
from auditsvc.provenance.formats.dsse import Bundle, LogEntry, check_p256, der_of, entry_body, time_of
from auditsvc.provenance.formats.manifest import Folder
from auditsvc.provenance.formats.merkle_log import includes, leaf_hash
from auditsvc.provenance.formats.predicates import Statement, Summary
from auditsvc.provenance.formats.signed_note import Checkpoint, NoteKey, count_witnesses, open_checkpoint
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.trust.trust_root import TrustedKey, TrustedLog, TrustRoot
from auditsvc.records import Moment, Release, Step, Verification, VerificationVerdict


@dataclass(frozen=True)
class LoadedAttestation:
    """An attestation with a valid signature: the statement, and the key that signed it."""

    name: str
    bundle: Bundle
    statement: Statement
    key: TrustedKey


def trusted_key(bundle: Bundle, trust: TrustRoot) -> TrustedKey:
    """The key that the bundle names, from the reader's trust only.  Raises ``Fault`` (``UNKNOWN_KEY``)."""
    key = trust.key(bundle.hint)
    if key is None:
        raise Fault("UNKNOWN_KEY", f"no trusted key is {bundle.hint[:16]}...")
    return key


def check_signature(bundle: Bundle, key: TrustedKey, predicate_type: str) -> None:
    """The key may sign this type, and it did.

    The role is checked first, so that nothing of a payload is read that its signer had no right to say.

    Raises:
        Fault: ``ROLE``, ``KEY_TYPE``, ``BAD_SIGNATURE``.
    """
    if predicate_type not in key.predicate_types:
        raise Fault("ROLE", f"a {key.role} key may not sign {predicate_type}")
    check_p256(key.pem.encode(), bundle.signature, bundle.signed_bytes)


def open_attestation(name: str, bundle: Bundle, trust: TrustRoot, predicate_type: str) -> LoadedAttestation:
    """The statement in a bundle, if a key that may say such a thing signed it.

    Raises:
        Fault: ``UNKNOWN_KEY``, ``ROLE``, ``KEY_TYPE``, ``BAD_SIGNATURE`` and those of ``Statement.parse``.
    """
    key = trusted_key(bundle, trust)
    check_signature(bundle, key, predicate_type)
    return LoadedAttestation(name, bundle, Statement.parse(bundle.payload, predicate_type), key)


def check_logged(attested: LoadedAttestation, log: TrustedLog) -> LogEntry:
    """The attestation's place in the log, proved.

    Raises:
        Fault: ``LOG_MISSING``, ``LOG_PROOF``, ``LOG_CHECKPOINT``, ``WITNESS``.
    """
    bundle = attested.bundle
    if not bundle.entries:
        raise Fault("LOG_MISSING", "the attestation is in no log")
    log_key = NoteKey.parse(log.vkey)
    for entry in bundle.entries:
        checkpoint = open_checkpoint(entry.checkpoint, log_key)
        _check_entry(entry, bundle, attested.key, checkpoint, log_key)
        _check_witnesses(entry.checkpoint, log)

    return bundle.entries[0]


def _check_entry(entry: LogEntry, bundle: Bundle, key: TrustedKey, checkpoint: Checkpoint, log_key: NoteKey) -> None:
    if entry.log_id != log_key.full_id or checkpoint.origin != log_key.name:
        raise Fault("LOG_CHECKPOINT", "the entry is of another log")
    if (entry.size, entry.root) != (checkpoint.size, checkpoint.root):
        raise Fault("LOG_PROOF", "the proof is not for the tree of its checkpoint")
    body = entry_body(bundle, der_of(key.pem.encode()))
    if entry.body != body:
        raise Fault("LOG_PROOF", "the log's entry is of another signature")
    if not includes(leaf_hash(body), entry.index, entry.size, entry.hashes, entry.root):
        raise Fault("LOG_PROOF", "the proof does not lead from the entry to the root of the log")


def _check_witnesses(envelope: str, log: TrustedLog) -> None:
    """Enough known witnesses cosigned this checkpoint."""
    seen = count_witnesses(envelope, log.witnesses) if log.quorum else 0
    if seen < log.quorum:
        raise Fault("WITNESS", f"{seen} known witnesses cosigned the checkpoint; {log.quorum} must")


def check_timestamp(bundle: Bundle, authorities: Sequence[str]) -> Moment:
    """When a trusted authority saw the signature, at the latest.

    ``authorities`` are certificate chains in PEM, the authority's own first and its root last.

    Raises:
        Fault: ``TIMESTAMP``.
    """
    if not bundle.timestamps:
        raise Fault("TIMESTAMP", "no timestamp, but one is required")
    return time_of(bundle.timestamps, bundle.signature, authorities)


def check_window(attested: LoadedAttestation, index: int | None) -> None:
    """The key counted at this index of the log (None: not logged).

    Raises:
        Fault: ``KEY_COMPROMISED``, ``KEY_WINDOW``.
    """
    key = attested.key
    if key.compromised_since is not None and (index is None or index >= key.compromised_since):
        raise Fault("KEY_COMPROMISED", f"the {key.role} key is compromised since log index {key.compromised_since}")
    if index is None:
        if key.from_log_index or key.not_after_log_index is not None:
            raise Fault("KEY_WINDOW", f"the {key.role} key counts in a window of the log only, and this is not logged")
        return
    if index < key.from_log_index or (key.not_after_log_index is not None and index > key.not_after_log_index):
        raise Fault("KEY_WINDOW", f"the {key.role} key did not count at log index {index}")


_OPEN = frozenset({"STALE_TRUST", "TRUST_ROLLBACK", "NOT_YET_SIGNED", "WAIVER_ENDED"})
"""Codes for too little knowledge, as opposed to a known fault."""


@dataclass
class StepResult:
    """The detail of a step that passed."""

    detail: str = "holds"


@dataclass
class VerificationReport:
    """Collects steps; a step that fails does not stop those that don't need it."""

    steps: list[Step] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str) -> Iterator[StepResult]:
        """Run one step: a ``Fault`` inside fails it, other exceptions pass through."""
        seen = StepResult()
        try:
            yield seen
        except Fault as fault:
            self.failed(name, [fault])
        else:
            self.held(name, seen.detail)

    def held(self, name: str, detail: str) -> None:
        """A step that passed."""
        self.steps.append(Step(step=name, code="OK", ok=True, detail=detail))

    def failed(self, name: str, faults: Iterable[Fault]) -> None:
        """A step that failed, with every reason."""
        self.steps += (Step(step=name, code=fault.step_code, ok=False, detail=fault.detail) for fault in faults)

    def note(self, message: str) -> None:
        """A limit of what was checked."""
        if message not in self.notes:
            self.notes.append(message)

    def verification(self, at: Moment) -> Verification:
        """What follows: anything wrong is ``INVALID``, then ``REVOKED``, then ``UNKNOWN``, else ``VALID``."""
        codes = {step.code for step in self.steps if not step.ok}
        verdict: VerificationVerdict = "VALID"
        if not self.steps or codes - _OPEN - {"REVOKED"}:
            verdict = "INVALID"
        elif "REVOKED" in codes:
            verdict = "REVOKED"
        elif codes:
            verdict = "UNKNOWN"
        return Verification(verdict=verdict, as_of=at, steps=tuple(self.steps), notes=tuple(self.notes))


REQUIRED = ("oms", "provenance", "vsa")


@dataclass
class VerificationContext:
    """A verification in progress.

    ``files`` is the release, ``attestations`` the folder ``attest``, ``contents`` their bytes as they were hashed.
    """

    trust: TrustRoot
    at: Moment
    files: Folder
    attestations: Folder
    contents: dict[str, bytes]
    report: VerificationReport = field(default_factory=VerificationReport)
    bundles: dict[str, Bundle] = field(default_factory=dict)
    attested: dict[str, LoadedAttestation] = field(default_factory=dict)
    summary: Summary | None = None
    resources: dict[str, str] | None = None

    def attest(self) -> None:
        """Check each attestation: shape, key, role, signature, inclusion in the log, validity of the key."""
        self._parse()
        self._open(["vsa"])
        self._summarise()
        if not self.trust.log and self.summary:
            self._accept_vouched_keys(self.summary)
        if "vsa" in self.attested or self.trust.log:
            self._open([name for name in sorted(self.bundles) if name != "vsa"])
        else:
            self.report.note("The other attestations were not checked: only the summary vouches for their keys.")
        for name in sorted(self.attested):
            self._place(self.attested[name])
        self._one_log()

    def listed(self) -> dict[str, str]:
        """The record files that the summary lists, by digest."""
        files = self.summary.release.files if self.summary else ()
        return {item.name: f"sha256:{item.digest.sha256}" for item in files}

    def vouched_contents(self) -> dict[str, bytes]:
        """The record files whose digest is the one in the summary."""
        listed = self.listed()
        return {
            file.name: self.contents[file.name]
            for file in self.attestations.files
            if listed.get(file.name) == file.digest
        }

    def _parse(self) -> None:
        if self.attestations.faults:
            self.report.failed("attestations", self.attestations.faults)
        names = sorted(
            name.removesuffix(release_layout.SUFFIX) for name in self.contents if name.endswith(release_layout.SUFFIX)
        )
        for name in names:
            with self.report.step(f"bundle {name}") as seen:
                if release_layout.type_of(name) is None or "/" in name:
                    raise Fault("EXTRA_FILES", f"{name}{release_layout.SUFFIX} has no meaning in a release")
                bundle = self.bundles[name] = Bundle.parse(self.contents[name + release_layout.SUFFIX])
                if bundle.to_json() != self.contents[name + release_layout.SUFFIX]:
                    raise Fault("BUNDLE_SHAPE", "the bundle is not in the canonical form in which it was written")
                seen.detail = f"key {bundle.hint[:16]}..., payload {bundle.payload_digest[:23]}..."
        missing = [name for name in REQUIRED if name not in names]
        faults = (Fault("MISSING_ATTESTATION", f"{name}{release_layout.SUFFIX} is not there") for name in missing)
        self.report.failed("attestations", faults)

    def _open(self, names: list[str]) -> None:
        for name in names:
            kind = release_layout.type_of(name)
            if name not in self.bundles or kind is None:
                continue
            with self.report.step(f"signature {name}") as seen:
                attested = self.attested[name] = open_attestation(name, self.bundles[name], self.trust, kind)
                seen.detail = f"by the {attested.key.role} key, {kind}"

    def _summarise(self) -> None:
        if "vsa" not in self.attested:
            return
        with self.report.step("summary") as seen:
            summary = Summary.parse(self.attested["vsa"].statement.predicate)
            summary.check_consistent()
            self.summary = summary
            seen.detail = f"{summary.resource_uri}: {summary.result} under {summary.policy.uri}"

    def _accept_vouched_keys(self, summary: Summary) -> None:
        """Only a release key is trusted: take the other keys from what it signed."""
        with self.report.step("vouched keys") as seen:
            data = self.vouched_contents().get(release_layout.TRUST_POLICY)
            if data is None:
                raise Fault("MISSING", f"{release_layout.TRUST_POLICY} is not there as the summary names it")
            try:
                vouched = TrustRoot.from_policy(data)
            except InvalidInput as error:
                raise Fault("SUMMARY", str(error)[:500]) from error
            self.trust = self.trust.with_vouched_keys(vouched)
            seen.detail = f"build, audit and log keys as {summary.verifier.id} names them"
            self.report.note(
                "Only the release key was given. It vouches for the keys that built, measured and logged; only "
                "a trust policy from another source shows whether all readers see the same history of the log."
            )

    def _place(self, attested: LoadedAttestation) -> None:
        """When it was signed: the place in the log, the window of the key, the timestamp."""
        log, require, name = self.trust.log, self.trust.require, attested.name
        index = None
        if log is None:
            self.report.note("No log was trusted: nothing is known of when this was signed.")
        elif attested.bundle.entries or require.tlog:
            with self.report.step(f"log {name}") as seen:
                index = check_logged(attested, log).index
                seen.detail = f"entry {index} of {log.origin}"
        else:
            self.report.note(f"{name} is in no log.")
        with self.report.step(f"key window {name}") as seen:
            check_window(attested, index)
            seen.detail = f"the {attested.key.role} key counts here"
        if require.timestamp:
            with self.report.step(f"timestamp {name}") as seen:
                time = check_timestamp(attested.bundle, self.trust.timestamp_authorities)
                seen.detail = time.isoformat()
        elif attested.bundle.timestamps:
            self.report.note("Timestamps were not checked: the trust root does not ask for them.")

    def _one_log(self) -> None:
        """All proofs are from one history: one root for each size."""
        trees = {(entry.size, entry.root) for bundle in self.bundles.values() for entry in bundle.entries}
        if len({size for size, _ in trees}) != len(trees):
            fault = Fault("LOG_FORK", "two checkpoints of one size have different roots: the log has two histories")
            self.report.failed("log", [fault])


def release_of(summary: Summary, files: Folder, attestations: Folder) -> Release:
    """The release record that a summary and these folders make."""
    release = summary.release
    return Release(
        model=release.model,
        version=release.version,
        candidate=release.candidate,
        decision=release.decision,
        approvals=tuple(entry.record for entry in release.approvals),
        files=files.files,
        attestations=tuple(file for file in attestations.files if file.name.endswith(release_layout.SUFFIX)),
        terms=release.terms,
        policy=f"sha256:{summary.policy.digest.sha256}" if release.terms else None,
        data=release.data if release.terms else None,
        at=release.signed_at,
    )
