"""One attestation, checked against the trust root: key, role, signature, inclusion in the log, validity of the key."""

from __future__ import annotations

from dataclasses import dataclass

from auditsvc.provenance.formats.dsse import Bundle, LogEntry, entry_body
from auditsvc.provenance.formats.merkle_log import includes, leaf_hash
from auditsvc.provenance.formats.predicates import Statement
from auditsvc.provenance.formats.signatures import check_p256, der_of
from auditsvc.provenance.formats.signed_note import Checkpoint, NoteKey, count_witnesses, open_checkpoint
from auditsvc.provenance.formats.strict_json import Fault
from auditsvc.provenance.trust.trust_root import TrustedKey, TrustedLog, TrustRoot


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
