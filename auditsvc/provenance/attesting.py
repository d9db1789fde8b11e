"""The work behind a seal: write the records, sign every statement, log every signature.

Each output is stored before the next is made, and what is stored is used again: ECDSA gives another
signature every time, and a signature that may be in the log already must not be replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from auditsvc import __version__
from auditsvc.ports import Keys, Log
from auditsvc.provenance import layout, statements
from auditsvc.provenance.approved import Sealing
from auditsvc.provenance.bom import bill_of_materials
from auditsvc.provenance.dsse import Bundle, LogEntry, entry_body
from auditsvc.provenance.notes import Checkpoint, NoteKey, sign_checkpoint
from auditsvc.provenance.signatures import check_p256, der_of, hint_of
from auditsvc.provenance.strict import Fault
from auditsvc.provenance.trust import StatementRole, TrustRoot, log_origin
from auditsvc.provenance.verifying import summary_in
from auditsvc.records import Moment, Record, digest_of

_SIGNED_BY: dict[str, StatementRole] = {"oms": "release", "vsa": "release", "provenance": "build"}


def unwitnessed(envelope: str) -> str:
    """The checkpoint as it is: there is no witness."""
    return envelope


@dataclass(frozen=True)
class Notaries:
    """Who stands behind a seal besides the keys.

    ``cosign`` brings a checkpoint to the witnesses and gives it back with their lines under it; ``stamp`` gives a
    time stamp over a signature, if there is an authority; ``trust`` is what readers are told to trust, by default
    the keys alone.
    """

    cosign: Callable[[str], str] = unwitnessed
    stamp: Callable[[bytes], bytes] | None = None
    trust: TrustRoot | None = None


@dataclass(frozen=True)
class Attesting:
    """The unfinished attestations of one decision, in a folder that nobody reads yet."""

    folder: Path
    sealing: Sealing
    keys: Keys

    notaries: Notaries = Notaries()

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
            if layout.read_or_none(self.folder / name) != data:
                layout.write_whole(self.folder / name, data)
        signed = {name: self._signed(name, payload) for name, payload in self._statements().items()}
        inputs = {name: bundle.payload_digest for name, bundle in signed.items()}
        sealed = self._sealed_before() or at
        summary = sealing.summary(inputs, {name: digest_of(data) for name, data in beside.items()}, sealed)
        payload = statements.summary_statement(sealing.candidate, summary.predicate())
        signed["vsa"] = self._signed("vsa", payload)
        self._log(signed, log)
        layout.sweep(self.folder, [*beside, *(name + layout.SUFFIX for name in signed)])

    def _records(self) -> dict[str, bytes]:
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
        return files | {layout.TRUST_POLICY: self.trust.to_json()}

    def _statements(self) -> dict[str, bytes]:
        """Every statement but the summary.  A refused model gets no OMS signature: that alone would look valid."""
        sealing = self.sealing
        candidate, decision = sealing.candidate, sealing.decision
        document = bill_of_materials(candidate, sealing.version, sealing.parent, sealing.evidence, decision)
        made = {
            "provenance": statements.provenance_statement(candidate, sealing.parent, __version__),
            "bom": statements.bom_statement(candidate, document),
        }
        if decision.outcome == "approved":
            made["oms"] = statements.oms_statement(candidate)
        for name, item in layout.evidence_names(sealing.evidence).items():
            path = f"{layout.EVIDENCE}/{name}.json"
            made[layout.AUDIT + name] = statements.result_statement(candidate, item, decision, sealing.policy, path)
        return made

    def _stored(self, name: str) -> Bundle | None:
        data = layout.read_or_none(self.folder / (name + layout.SUFFIX))
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
            layout.write_whole(self.folder / (name + layout.SUFFIX), bundle.logged(entry).to_json())
