"""The gate query: may this version be used?  Answered from the ledger alone, fast, and "no" unless proven otherwise."""

from __future__ import annotations

from typing import Literal

from auditsvc.errors import NotFound
from auditsvc.ports import Ledger, View
from auditsvc.records import (
    Approval,
    Decision,
    Digest,
    Moment,
    Policy,
    RegistryFinding,
    Release,
    Revocation,
    Submission,
    Value,
)

Answer = Literal["approved", "rejected", "inconclusive", "revoked"]

EXIT_CODES: dict[Answer, int] = {"approved": 0, "rejected": 1, "inconclusive": 3, "revoked": 5}


class GateAnswer(Value):
    """The answer, what it rests on, and every reason against it."""

    answer: Answer
    model: str
    version: str
    candidate: Digest
    policy: str | None = None
    decision: Digest | None = None
    decided_at: Moment | None = None
    release: Digest | None = None
    reasons: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """What a pipeline's shell sees."""
        return EXIT_CODES[self.answer]


def query_gate(ledger: Ledger, model: str, version: str, policy: str | None = None) -> GateAnswer:
    """Whether this version may be used: only if it is approved, released, and not revoked.

    ``policy`` is a policy's name or digest; without it the newest decision counts.

    Raises:
        NotFound: this version was never submitted.
    """
    with ledger.snapshot() as view:
        return _asked(view, model, version, policy)


def _asked(view: View, model: str, version: str, policy: str | None) -> GateAnswer:
    submissions = view.find(Submission, f"{model}/{version}")
    if not submissions:
        raise NotFound(f"no candidate was submitted as {model} version {version}")
    candidate = submissions[-1].candidate
    decisions = [item for item in view.find(Decision, candidate) if _is_under(item, policy)]
    if not decisions:
        under = f" under the policy {policy}" if policy else ""
        return GateAnswer(
            answer="inconclusive",
            model=model,
            version=version,
            candidate=candidate,
            reasons=(f"it was never judged{under}",),
        )
    decision = decisions[-1]
    answer, reasons, released = _answered(view, decision)
    return GateAnswer(
        answer=answer,
        model=model,
        version=version,
        candidate=candidate,
        policy=decision.policy_name,
        decision=decision.digest,
        decided_at=decision.at,
        release=released,
        reasons=reasons,
    )


def _is_under(decision: Decision, policy: str | None) -> bool:
    names = (decision.policy, decision.policy_name, decision.policy_name.rpartition("-")[0])
    return policy is None or policy in names


def _answered(view: View, decision: Decision) -> tuple[Answer, tuple[str, ...], Digest | None]:
    if decision.outcome != "approved":
        blocking = (item for item in decision.findings if item.severity == "block" and item.waiver is None)
        return decision.outcome, tuple(f"{item.rule}: {item.words}" for item in blocking), None
    releases = view.find(Release, decision.digest)
    if not releases:
        wanted = view.get(Policy, decision.policy).approvals
        given = len(view.find(Approval, decision.digest))
        return "inconclusive", (f"approved by the gate, not released: {given} of {wanted} approvals given",), None
    sealed = releases[-1].digest
    revocations = view.find(Revocation, sealed)
    if revocations:
        return "revoked", tuple(item.reason for item in revocations), sealed
    found = view.find(RegistryFinding, f"{releases[-1].model}/{releases[-1].version}")
    if found and found[-1].fault:
        return "inconclusive", (found[-1].fault,), sealed
    return "approved", (), sealed
