"""What the ledger holds of one decision, for reports and pages alike.  Imports no torch: pages need it too."""

from __future__ import annotations

from auditsvc.compliance import ReportInputs
from auditsvc.ports import Ledger
from auditsvc.records import Approval, Candidate, Decision, Evidence, Parent, Policy, Waiver


def recorded(model: str, version: str, candidate: Candidate, decision: Decision, ledger: Ledger) -> ReportInputs:
    """Candidate, parent, policy, evidence, approvals and waivers of this decision; nothing that needs the images."""
    return ReportInputs(
        model=model,
        version=version,
        candidate=candidate,
        parent=ledger.get(Parent, candidate.parent),
        policy=ledger.get(Policy, decision.policy),
        decision=decision,
        evidence=tuple(ledger.get(Evidence, digest) for digest in decision.evidence),
        approvals=ledger.find(Approval, decision.digest),
        waivers=tuple(ledger.get(Waiver, digest) for digest in decision.waivers),
    )


def is_clean(evidence: Evidence) -> bool:
    """Whether it tells the loss on the images as they are."""
    return any(reading.metric == "drop.clean" for reading in evidence.readings)
