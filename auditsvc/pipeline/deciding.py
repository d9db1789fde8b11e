"""Judge, approve, waive.  The judging itself is ``gate.decide``, a pure function; here records come and go."""

from __future__ import annotations

import datetime
from collections.abc import Iterable

from auditsvc.errors import Conflict, InvalidInput, NotApproved, NotFound
from auditsvc.gate import decide
from auditsvc.pipeline.comparing import incumbent_of, look
from auditsvc.pipeline.pointing import unpoint
from auditsvc.pipeline.refusing import refuse
from auditsvc.ports import Ports
from auditsvc.records import (
    Approval,
    Candidate,
    CheckFailed,
    Decision,
    Evidence,
    Policy,
    Submission,
    Waiver,
)


def judge(candidate: Candidate, policy: Policy, evidence: Iterable[Evidence | CheckFailed], ports: Ports) -> Decision:
    """Decide on this evidence; the same judgements as last time give the decision of last time.

    A candidate that carries the alias and is no longer approved loses it.  A rejection is signed and logged like
    a release, for every version that was submitted.
    """
    measured = tuple(item for item in evidence if isinstance(item, Evidence))
    waivers = ports.ledger.find(Waiver, candidate.digest)
    decision = decide(
        policy,
        candidate,
        measured,
        waivers=waivers,
        incumbent=incumbent_of(candidate, ports.ledger),
        looks=look(candidate, measured, ports),
        at=ports.clock.now(),
    )
    known = ports.ledger.find(Decision, f"{candidate.digest}|{policy.digest}")
    if known and known[-1].model_copy(update={"at": decision.at}) == decision:
        decision = known[-1]
    ports.ledger.append(policy, decision, actor="auditsvc")
    for submission in ports.ledger.find(Submission, candidate.digest):
        tags = {
            "auditsvc.decision": decision.outcome,
            "auditsvc.decision_digest": decision.digest,
            "auditsvc.policy": decision.policy_name,
        }
        ports.registry.tag(submission.model, submission.version, tags)
        if decision.outcome != "approved":
            unpoint(submission.model, submission.version, decision.digest, ports)
    if decision.outcome == "rejected":
        refuse(candidate, decision, ports)
    return decision


def latest_decision(candidate: Candidate, policy: Policy | None, ports: Ports) -> Decision:
    """The newest decision on a candidate, under this policy if one is given.

    Raises:
        NotFound: it was never judged.
    """
    subject = candidate.digest if policy is None else f"{candidate.digest}|{policy.digest}"
    known = ports.ledger.find(Decision, subject)
    if not known:
        raise NotFound(f"the candidate {candidate.digest} was never judged; audit it first")
    return known[-1]


def approve(decision: Decision, approver: str, ports: Ports, comment: str = "") -> Approval:
    """A named person consents to one decision.

    Raises:
        NotApproved: the decision does not approve; nobody can consent to a release that the gate refuses.
        Conflict: a newer decision stands, or the approver submitted the candidate.
    """
    if decision.outcome != "approved":
        raise NotApproved(f"the decision is {decision.outcome}; only an approved one can be consented to")
    newest = ports.ledger.find(Decision, f"{decision.candidate}|{decision.policy}")[-1]
    if newest.digest != decision.digest:
        raise Conflict("a newer decision on this candidate stands; look at that one")
    known = [item for item in ports.ledger.find(Approval, decision.digest) if item.approver == approver]
    if known:
        return known[0]
    approval = Approval(
        decision=decision.digest,
        candidate=decision.candidate,
        approver=approver,
        comment=comment,
        at=ports.clock.now(),
    )
    ports.ledger.append(approval, actor=approver)
    return approval


def waive(decision: Decision, rule: str, person: str, reason: str, until: datetime.date, ports: Ports) -> Waiver:
    """A named person takes one open rule of one candidate upon themselves until a day.

    Raises:
        InvalidInput: no such open rule in the decision (a waiver that matches nothing), a rule that the policy lets
            nobody waive, or a day in the past.
        Conflict: the person submitted the candidate.
    """
    now = ports.clock.now()
    open_rules = {item.rule for item in decision.findings}
    if rule not in open_rules:
        raise InvalidInput(f"the decision has no open finding under {rule!r}; open: {', '.join(sorted(open_rules))}")
    policy = ports.ledger.get(Policy, decision.policy)
    if any(item.rule == rule and item.waivers == "never" for item in policy.rules):
        raise InvalidInput(f"the policy {decision.policy_name} lets nobody waive the rule {rule}")
    if until < now.date():
        raise InvalidInput(f"a waiver until {until} would be over already")
    if any(
        item.submitter.casefold() == person.casefold() for item in ports.ledger.find(Submission, decision.candidate)
    ):
        raise Conflict(f"{person} submitted this candidate and can't waive its rules")
    waiver = Waiver(
        candidate=decision.candidate,
        policy=decision.policy,
        rule=rule,
        person=person,
        reason=reason,
        until=until,
        at=now,
    )
    ports.ledger.append(waiver, actor=person)
    return waiver
