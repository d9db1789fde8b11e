"""Judge, approve and waive, and load the records of a decision.

The judging itself is ``gate.decide``, a pure function; this module adds what it needs besides the candidate's own
evidence: the incumbent, and the holdout uses of the images.
It imports no torch, because pages need it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from auditsvc.errors import Conflict, InvalidInput, NotApproved, NotFound
from auditsvc.gate import decide
from auditsvc.ports import Context, Ledger, View
from auditsvc.records import (
    Alarm,
    Approval,
    Candidate,
    CheckFailed,
    Decision,
    Digest,
    Evidence,
    Policy,
    Release,
    ReleaseTerms,
    Revocation,
    Submission,
    Value,
    Waiver,
    person_key,
)
from auditsvc.records.eligibility import Incumbent
from auditsvc.services.holdout import holdout_uses, record_holdout_use
from auditsvc.services.objections import require_unopposed
from auditsvc.services.release import attest_rejection, waived_by
from auditsvc.services.terms import audited_data, binding_terms, require_binding


def report_folder(store: Path, decision: Digest, model: str, version: str) -> Path:
    """Where the report of one decision is: a later decision on the same version never overwrites it."""
    return store / "reports" / model / version / decision.removeprefix("sha256:")[:16]


def incumbent_of(candidate: Candidate, ledger: Ledger) -> Incumbent | None:
    """The newest candidate of this model that was released and not revoked, other than this one."""
    for release in reversed(ledger.find(Release, candidate.model)):
        if release.candidate != candidate.digest and not ledger.find(Revocation, release.digest):
            return incumbent_named(release.candidate, ledger)
    return None


def incumbent_named(digest: Digest | None, ledger: Ledger) -> Incumbent | None:
    """The incumbent that a decision named; None where it named none, or its record is not here."""
    try:
        return None if digest is None else Incumbent(ledger.get(Candidate, digest), ledger.find(Evidence, digest))
    except NotFound:
        return None


def _with_uses(
    incumbent: Incumbent | None, policy: Policy, evidence: Iterable[Evidence], ledger: View
) -> Incumbent | None:
    """The incumbent with its own ordinals on these images, which say at which level its evidence was measured."""
    if incumbent is None:
        return None
    return replace(incumbent, uses=holdout_uses(policy, incumbent.candidate, datasets_of(evidence), ledger))


def datasets_of(evidence: Iterable[Evidence]) -> frozenset[Digest]:
    """The data sets that evidence is of."""
    return frozenset(item.key.dataset for item in evidence)


def is_clean(evidence: Evidence) -> bool:
    """Whether it measures the loss on clean images."""
    return any(reading.metric == "drop.clean" for reading in evidence.readings)


def decide_now(ctx: Context, candidate: Candidate, policy: Policy, evidence: Sequence[Evidence]) -> Decision:
    """``gate.decide`` with the waivers, incumbent and holdout uses that the ledger has now; it records nothing."""
    return decide(
        policy,
        candidate,
        evidence,
        waivers=ctx.ledger.find(Waiver, candidate.digest),
        incumbent=_with_uses(incumbent_of(candidate, ctx.ledger), policy, evidence, ctx.ledger),
        holdout_uses=holdout_uses(policy, candidate, datasets_of(evidence), ctx.ledger),
        terms=binding_terms(ctx.ledger, candidate.model),
        at=ctx.clock.now(),
    )


def decided_again(ledger: Ledger, decision: Decision) -> Decision:
    """The decision made again, as of its time, from the records that it names.

    Raises:
        NotFound: one of them is not in the ledger.
    """
    candidate, policy = ledger.get(Candidate, decision.candidate), ledger.get(Policy, decision.policy)
    evidence = [ledger.get(Evidence, digest) for digest in decision.evidence]
    return decide(
        policy,
        candidate,
        evidence,
        waivers=[ledger.get(Waiver, digest) for digest in decision.waivers],
        incumbent=_with_uses(incumbent_named(decision.incumbent, ledger), policy, evidence, ledger),
        holdout_uses=holdout_uses(policy, candidate, datasets_of(evidence), ledger),
        terms=ledger.get(ReleaseTerms, decision.terms) if decision.terms else None,
        at=decision.at,
    )


def judge(ctx: Context, candidate: Candidate, policy: Policy, evidence: Iterable[Evidence | CheckFailed]) -> Decision:
    """Decide on this evidence; the same judgements as last time give the decision of last time.

    The decision is binding under the model's terms, or a trial.  A binding one that does not approve what is released
    raises an alarm; it moves no alias.  A rejection is signed and logged like a release, for every version that was
    submitted.
    """
    measured = tuple(item for item in evidence if isinstance(item, Evidence))
    for dataset in sorted(datasets_of(measured)):
        record_holdout_use(ctx, candidate, dataset)
    decision = decide_now(ctx, candidate, policy, measured)
    decisions = ctx.ledger.find(Decision, f"{candidate.digest}|{policy.digest}")
    known = [one for one in decisions if one.supersedes(decision)]
    if known and known[-1].model_copy(update={"at": decision.at}) == decision:
        decision = known[-1]
    ctx.ledger.append(policy, decision, actor="auditsvc")
    tags: dict[str, str] = {"auditsvc.trial": decision.outcome} if decision.trial else {
        "auditsvc.decision": decision.outcome,
        "auditsvc.decision_digest": decision.digest,
        "auditsvc.policy": decision.policy_name,
    }  # fmt: skip
    for submission in ctx.ledger.find(Submission, candidate.digest):
        ctx.registry.tag(submission.model, submission.version, tags)
    _raise_alarm(ctx, decision)
    if decision.outcome == "rejected" or candidate.only_predictions:
        attest_rejection(ctx, candidate, decision)
    return decision


def _raise_alarm(ctx: Context, decision: Decision) -> None:
    """Record that a release needs a review, once for each binding decision that does not approve it."""
    if decision.trial or decision.outcome == "approved":
        return
    for release in ctx.ledger.find(Release, decision.candidate):
        known = {one.decision for one in ctx.ledger.find(Alarm, release.digest)}
        if decision.digest in known or ctx.ledger.find(Revocation, release.digest):
            continue
        alarm = Alarm(
            model=release.model,
            version=release.version,
            release=release.digest,
            decision=decision.digest,
            outcome=decision.outcome,
            at=ctx.clock.now(),
        )
        ctx.ledger.append(alarm, actor="auditsvc")


def latest_decision(ctx: Context, candidate: Candidate) -> Decision:
    """The newest binding decision on a candidate; where it has none, the newest trial.

    Raises:
        NotFound: it was never judged.
    """
    known = ctx.ledger.find(Decision, candidate.digest)
    if not known:
        raise NotFound(f"the candidate {candidate.digest} was never judged; audit it first")
    terms = binding_terms(ctx.ledger, candidate.model)
    binding = [one for one in known if terms and one.terms == terms.digest]
    return (binding or known)[-1]


def involved(ledger: View, decision: Decision) -> tuple[str, ...]:
    """Who submitted the candidate, waived a rule of this decision or approved it: another person must act next."""
    submitters = tuple(item.submitter for item in ledger.find(Submission, decision.candidate))
    waived = tuple(ledger.get(Waiver, digest).person for digest in decision.waivers)
    return submitters + waived + tuple(item.approver for item in ledger.find(Approval, decision.digest))


def approve(ctx: Context, decision: Decision, approver: str, comment: str = "") -> Approval:
    """Record a named person's approval of one decision.

    Raises:
        NotApproved: the decision does not approve, or isn't binding under the terms of the model.
        Conflict: a newer decision supersedes this one, an objection is open, or the approver submitted
            the candidate or waived a rule.
    """
    if decision.outcome != "approved":
        raise NotApproved(f"the decision is {decision.outcome}; people can approve only a decision that approves")
    require_binding(ctx.ledger, decision)
    require_unopposed(ctx.ledger, decision)
    if person_key(approver) in waived_by(ctx.ledger, decision):
        raise Conflict(
            f"{approver} waived a rule of this decision and can't approve it: another person must approve it"
        )
    known = [item for item in ctx.ledger.find(Approval, decision.digest) if item.approver == approver]
    if known:
        return known[0]
    approval = Approval(
        decision=decision.digest,
        candidate=decision.candidate,
        approver=approver,
        comment=comment,
        at=ctx.clock.now(),
    )
    ctx.ledger.append(approval, actor=approver)
    return approval


MAX_WAIVER_DAYS = 366
"""How long a waiver can hold: a person takes responsibility again at least once a year."""


def waive(ctx: Context, decision: Decision, rule: str, person: str, reason: str, until: datetime.date) -> Waiver:
    """Waive one open rule of one candidate until a date, in a named person's name.

    Raises:
        InvalidInput: no such open rule in the decision (a waiver that matches nothing), a rule that can't be
            waived, or a day in the past or too far ahead.
        Conflict: the person submitted the candidate.
    """
    now = ctx.clock.now()
    open_rules = {item.rule for item in decision.findings}
    if rule not in open_rules:
        raise InvalidInput(f"the decision has no open finding under {rule!r}; open: {', '.join(sorted(open_rules))}")
    policy = ctx.ledger.get(Policy, decision.policy)
    if any(item.rule == rule and item.waivers == "never" for item in policy.rules):
        raise InvalidInput(f"the policy {decision.policy_name} does not allow waiving the rule {rule}")
    if until < now.date():
        raise InvalidInput(f"a waiver until {until} would be over already")
    if until > now.date() + datetime.timedelta(days=MAX_WAIVER_DAYS):
        raise InvalidInput(f"a waiver until {until} is too long: at most {MAX_WAIVER_DAYS} days from today")
    if any(
        person_key(item.submitter) == person_key(person) for item in ctx.ledger.find(Submission, decision.candidate)
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
    ctx.ledger.append(waiver, actor=person)
    return waiver


class BacktestRow(Value):
    """One submitted candidate: what was decided, what this policy decides on the same evidence, and why."""

    model: str
    version: str
    data: str
    before: str
    under: str
    now: str
    reasons: tuple[str, ...]

    @property
    def turned(self) -> bool:
        """Whether the outcome is another one."""
        return self.before != self.now


def backtest(policy: Policy, ledger: Ledger, model: str | None = None) -> Iterator[BacktestRow]:
    """Every submission that was judged, oldest first, judged again as of the time of its newest decision, on the data
    that it was judged on: what the monitor measured later was no decision.

    Evidence that was measured with other pins than this policy's does not count, and its rules are unknown:
    that is what would have to be measured first.
    """
    for submission in ledger.all(Submission):
        decisions = ledger.find(Decision, submission.candidate)
        if decisions and model in (None, submission.model):
            yield from _replayed(policy, submission, decisions, ledger)


def _replayed(
    policy: Policy, submission: Submission, decisions: Sequence[Decision], ledger: Ledger
) -> Iterator[BacktestRow]:
    candidate, last = ledger.get(Candidate, submission.candidate), decisions[-1]
    judged = {one.digest for decision in decisions for one in audited_data(ledger, decision)}
    measured = (one for one in ledger.find(Evidence, candidate.digest) if one.dataset.digest in judged)
    evidence = sorted(measured, key=_data)
    looks = holdout_uses(policy, candidate, datasets_of(evidence), ledger)
    waivers = ledger.find(Waiver, candidate.digest)
    incumbent = incumbent_named(last.incumbent, ledger) or incumbent_of(candidate, ledger)
    for (dataset, name), found in groupby(evidence, key=_data):
        same = tuple(found)
        decision = decide(
            policy,
            candidate,
            same,
            waivers=waivers,
            incumbent=_with_uses(incumbent, policy, same, ledger),
            holdout_uses={dataset: looks[dataset]},
            at=last.at,
        )
        open_ones = (item for item in decision.findings if item.severity == "block" and item.waiver is None)
        yield BacktestRow(
            model=submission.model,
            version=submission.version,
            data=name,
            before=last.outcome,
            under=last.policy_name,
            now=decision.outcome,
            reasons=tuple(f"{item.rule}: {item.words}" for item in open_ones),
        )


def _data(evidence: Evidence) -> tuple[str, str]:
    return evidence.key.dataset, evidence.dataset.name
