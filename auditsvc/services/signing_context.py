"""What is sealed, gathered from the ledger, and the log that it is sealed in."""

from __future__ import annotations

from auditsvc.ports import Ports
from auditsvc.provenance import ReleaseInputs, SigningServices, TrustRoot
from auditsvc.provenance.signer.checkpoint_store import CheckpointStore
from auditsvc.provenance.trust.key_validity import with_retired
from auditsvc.records import Approval, Candidate, Decision, Evidence, Parent, Policy, Retirement, Submission, Waiver


def release_inputs(submission: Submission, candidate: Candidate, decision: Decision, ports: Ports) -> ReleaseInputs:
    """All records behind one decision on one submitted version.

    Raises:
        NotFound: one of them is not in the ledger.
    """
    return ReleaseInputs(
        model=submission.model,
        version=submission.version,
        candidate=candidate,
        parent=ports.ledger.get(Parent, candidate.parent),
        policy=ports.ledger.get(Policy, decision.policy),
        decision=decision,
        evidence=tuple(ports.ledger.get(Evidence, digest) for digest in decision.evidence),
        approvals=ports.ledger.find(Approval, decision.digest),
        waivers=tuple(ports.ledger.get(Waiver, digest) for digest in decision.waivers),
        submitter=submission.submitter,
    )


def signing_services_of(ports: Ports) -> SigningServices:
    """Who stands behind a seal: witnesses and time stamps, where there are any; each checkpoint is kept.

    The guard looks before anything is signed.

    Raises:
        Conflict: the log does not continue what it has published.
    """
    log = checkpoint_store_of(ports)
    log.guard()

    def cosign(envelope: str) -> str:
        return log.record(ports.witnesses.cosign(envelope) if ports.witnesses else envelope)

    return SigningServices(cosign, ports.timestamps.stamp if ports.timestamps else None, trust_of(ports))


def trust_of(ports: Ports) -> TrustRoot:
    """What readers are told to trust: the keys with their windows, the log, witnesses, time stamps."""
    trust = with_retired(TrustRoot.of_keys(ports.keys), ports.ledger.all(Retirement))
    if not ports.witnesses and not ports.timestamps:
        return trust
    return trust.with_notaries(
        witnesses=ports.witnesses.vkeys if ports.witnesses else (),
        quorum=ports.witnesses.quorum if ports.witnesses else 0,
        authorities=(ports.timestamps.authority,) if ports.timestamps else (),
    )


def checkpoint_store_of(ports: Ports) -> CheckpointStore:
    """The last checkpoint of this installation's log, and the guard over it."""
    return CheckpointStore(ports.checkpoint or ports.folder / "checkpoint", ports.keys, ports.log, ports.witnesses)
