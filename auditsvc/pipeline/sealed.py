"""What is sealed, gathered from the ledger, and the log that it is sealed in."""

from __future__ import annotations

from auditsvc.ports import Ports
from auditsvc.provenance import Sealing
from auditsvc.provenance.published import Published
from auditsvc.records import (
    Approval,
    Candidate,
    Decision,
    Evidence,
    Parent,
    Policy,
    Submission,
    Waiver,
)


def sealing_of(submission: Submission, candidate: Candidate, decision: Decision, ports: Ports) -> Sealing:
    """All records behind one decision on one submitted version.

    Raises:
        NotFound: one of them is not in the ledger.
    """
    return Sealing(
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


def published(ports: Ports) -> Published:
    """The last checkpoint of this installation's log, and the guard over it."""
    return Published(ports.checkpoint or ports.folder / "checkpoint", ports.keys, ports.log)
