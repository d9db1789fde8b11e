"""The gate query: may this version be used?  Answered from the ledger alone, fast, and "no" unless proven otherwise.

A release answers until it is revoked or the version is released again: later audits can raise an alarm, but not change
the answer.  Before a release, the newest binding decision answers; a trial never does.
"""

from __future__ import annotations

from typing import Literal

from auditsvc.errors import NotFound
from auditsvc.ports import Ledger, View
from auditsvc.records import (
    Approval,
    AuditedData,
    Decision,
    Digest,
    Moment,
    Policy,
    RegistryFinding,
    Release,
    ReleaseTerms,
    Revocation,
    Submission,
    Value,
    Waiver,
)
from auditsvc.services.objections import open_objections
from auditsvc.services.terms import audited_data, binding_terms, open_alarm, satisfied_by
from auditsvc.services.watching import open_drift

Answer = Literal["approved", "rejected", "inconclusive", "revoked"]

EXIT_CODES: dict[Answer, int] = {"approved": 0, "rejected": 1, "inconclusive": 3, "revoked": 5}


MOST_REASONS = 20
"""Reasons of a decision in an answer; the decision has all."""


class GateAnswer(Value):
    """The answer, the records behind it, and every reason against it."""

    answer: Answer
    model: str
    version: str
    candidate: Digest
    policy: str | None = None
    policy_digest: Digest | None = None
    data: tuple[AuditedData, ...] = ()
    """The data sets of the decision, with their digests and numbers of images."""
    terms: Digest | None = None
    """The terms that bind the decision."""
    decision: Digest | None = None
    decided_at: Moment | None = None
    release: Digest | None = None
    reasons: tuple[str, ...] = ()
    review: str | None = None
    """Why a release that is still the answer needs a review: a newer binding decision does not approve it, an alarm of
    the monitor is open, or its evidence is old."""

    @property
    def exit_code(self) -> int:
        """What a pipeline's shell sees."""
        return EXIT_CODES[self.answer]


def query_gate(
    ledger: Ledger, model: str, version: str, policy: str | None = None, *, at: Moment | None = None
) -> GateAnswer:
    """Whether this version may be used: only if it is released under the terms of its model, and not revoked.

    ``policy`` is a policy's name or digest that the answer must rest on.  At the time ``at`` every waiver must hold,
    and evidence that is older than its policy counts it for is mentioned; without a time neither is judged.

    Raises:
        NotFound: this version was never submitted.
    """
    with ledger.snapshot() as view:
        answer = answer_of(view, model, version, policy)
        return answer if at is None else _as_of(view, answer, at)


def _as_of(view: View, answer: GateAnswer, at: Moment) -> GateAnswer:
    """The answer at this time: a release whose waiver ended is not approved; old evidence asks for a review."""
    if answer.answer != "approved" or answer.decision is None:
        return answer
    decision = view.get(Decision, answer.decision)
    waivers = (view.get(Waiver, digest) for digest in decision.waivers)
    ended = tuple(
        f"the waiver of {one.rule} by {one.person} ended on {one.until}" for one in waivers if one.until < at.date()
    )
    if ended:
        return answer.model_copy(update={"answer": "inconclusive", "reasons": ended})
    age, most = (at - decision.at).days, view.get(Policy, decision.policy).max_age_days
    found = [answer.review or "", *(f"monitor: {one.words}" for one in open_drift(view, str(answer.release), at))]
    if age > most:
        found.append(f"the decision is {age} days old and its policy counts evidence for {most} days: audit it again")
    return answer.model_copy(update={"review": "; ".join(filter(None, found)) or None})


def submitted_as(view: View, model: str, version: str) -> Submission:
    """The newest submission as this version.  Raises ``NotFound``."""
    known = view.find(Submission, f"{model}/{version}")
    if not known:
        raise NotFound(f"no candidate was submitted as {model} version {version}")
    return known[-1]


def answer_of(view: View, model: str, version: str, policy: str | None = None) -> GateAnswer:
    """``query_gate`` within a snapshot, without a time."""
    candidate = submitted_as(view, model, version).candidate
    nothing = GateAnswer(answer="inconclusive", model=model, version=version, candidate=candidate)
    terms = binding_terms(view, model)
    releases = [one for one in view.find(Release, f"{model}/{version}") if one.candidate == nothing.candidate]
    if releases:
        decision = view.get(Decision, releases[-1].decision)
        found = _released(view, releases[-1], decision)
    else:
        known = view.find(Decision, nothing.candidate)
        binding = [one for one in known if terms and one.terms == terms.digest]
        if not binding:
            return nothing.model_copy(update={"reasons": _only_trials(model, known, terms)})
        decision = _deciding(binding)
        found = _unreleased(view, decision, terms)
    if not _is_under(decision, policy):
        reason = f"it was not judged under the policy {policy}: the decision is under {decision.policy_name}"
        return nothing.model_copy(update={"reasons": (reason,)})
    rests_on = {
        "policy": decision.policy_name,
        "policy_digest": decision.policy,
        "data": audited_data(view, decision),
        "terms": decision.terms,
        "decision": decision.digest,
        "decided_at": decision.at,
    }
    return nothing.model_copy(update=rests_on | found)


def _deciding(binding: list[Decision]) -> Decision:
    """Of the newest decision on each data set of the terms, the first that does not approve, else the last."""
    newest = {tuple(one.digest for one in each.data or ()): each for each in binding}
    return next((one for one in newest.values() if one.outcome != "approved"), binding[-1])


def _is_under(decision: Decision, policy: str | None) -> bool:
    names = (decision.policy, decision.policy_name, decision.policy_name.rpartition("-")[0])
    return policy is None or policy in names


def _only_trials(model: str, known: tuple[Decision, ...], terms: ReleaseTerms | None) -> tuple[str, ...]:
    """Why nothing answers: no terms, no decision, or only trials, of which the newest is named."""
    if not known:
        return ("it was never judged",)
    last = known[-1]
    trial = f"a trial under {last.policy_name} gave {last.outcome}; a trial never answers the gate"
    if terms is None:
        return (trial, f"no terms bind {model}: two people set them with `auditsvc terms set`, then audit again")
    return (trial, f"audit it under the terms of {model}: the policy {terms.policy_name} on the data set of the terms")


def _released(view: View, release: Release, decision: Decision) -> dict[str, object]:
    found: dict[str, object] = {"release": release.digest}
    revocations = view.find(Revocation, release.digest)
    if revocations:
        return found | {"answer": "revoked", "reasons": tuple(item.reason for item in revocations)}
    if decision.trial and not any(satisfied_by(one, view, decision) for one in view.find(ReleaseTerms, release.model)):
        reason = (
            f"it was released by version 0.1, without terms. If two people set terms of {release.model} with the same "
            f"policy ({decision.policy}) and data set, it is approved again; else audit and release it under the terms"
        )
        return found | {"answer": "inconclusive", "reasons": (reason,)}
    moved = view.find(RegistryFinding, f"{release.model}/{release.version}")
    if moved and moved[-1].fault:
        return found | {"answer": "inconclusive", "reasons": (moved[-1].fault,)}
    alarm = open_alarm(view, release)
    words = alarm and f"a newer binding decision is {alarm.outcome} ({alarm.decision}); revoke or roll back"
    return found | {"answer": "approved", "review": words}


def _unreleased(view: View, decision: Decision, terms: ReleaseTerms | None) -> dict[str, object]:
    if decision.outcome != "approved":
        blocking = [item for item in decision.findings if item.severity == "block" and item.waiver is None]
        reasons = [f"{item.rule}: {item.words}" for item in blocking[:MOST_REASONS]]
        if len(blocking) > MOST_REASONS:
            reasons.append(f"and {len(blocking) - MOST_REASONS} more, in /v1/decisions/{decision.digest}")
        return {"answer": decision.outcome, "reasons": tuple(reasons)}
    if objections := open_objections(view, decision):
        answer = "rejected" if any(one.state == "rejected" for one in objections) else "inconclusive"
        return {"answer": answer, "reasons": tuple(f"{one.words}: {one.reason}" for one in objections)}
    given, wanted = len(view.find(Approval, decision.digest)), terms.approvals if terms else 0
    return {"reasons": (f"approved by the gate, not released: {given} of {wanted} approvals given",)}
