"""Terms of a model: propose, confirm and look up, and what a decision needs to be approved and released under them.

One person proposes terms, another confirms them; the ledger refuses terms of one person.  The newest confirmed terms
bind.  Only a decision under them that no newer one supersedes can be approved or released.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from auditsvc.errors import Conflict, InvalidInput, NotApproved, NotFound
from auditsvc.ports import Context, View
from auditsvc.records import (
    Alarm,
    Approval,
    AuditedData,
    Candidate,
    Decision,
    DecisionRecords,
    Digest,
    Evidence,
    Moment,
    Name,
    Parent,
    PastDecision,
    Policy,
    Release,
    ReleaseTerms,
    Revocation,
    Submission,
    TermsProposal,
    Text,
    Waiver,
    faults_of,
    person_key,
)
from auditsvc.records.data_card import DataCard, DataUse
from auditsvc.records.eligibility import DatasetImages, ImagesSeen
from auditsvc.records.model import answering_files


class TermsDraft(BaseModel):
    """What is to bind a model; what is left out is taken from the policy."""

    datasets: Annotated[tuple[Digest, ...], Field(min_length=1, max_length=20)]
    slices: Annotated[dict[Text, Annotated[int, Field(ge=1)]], Field(max_length=200)] = {}
    approvals: Annotated[int, Field(ge=1, le=9)] | None = None
    roles: dict[Name, tuple[Name, ...]] | None = None
    parents: Annotated[tuple[Digest, ...], Field(max_length=100)] = ()
    unmarked: bool = False
    reason: Text


def binding_terms(view: View, model: str) -> ReleaseTerms | None:
    """The terms that bind this model now; None if no terms are set, so every decision is a trial."""
    known = view.find(ReleaseTerms, model)
    return known[-1] if known else None


def pending_terms(view: View, model: str) -> TermsProposal | None:
    """The newest proposal for this model, if it is not confirmed and no newer terms were."""
    proposals, terms = view.find(TermsProposal, model), binding_terms(view, model)
    if not proposals or (terms and (terms.proposal == proposals[-1].digest or terms.at > proposals[-1].at)):
        return None
    return proposals[-1]


def propose_terms(ctx: Context, model: str, policy: Policy, draft: TermsDraft, person: str) -> TermsProposal:
    """Propose the terms of a model; another person must confirm them.

    Where the draft names no parents, those that are registered now are accepted, and none that is registered later:
    a candidate loses nothing against a parent that is as bad.

    Raises:
        NotFound: the model or one of the parents isn't registered.
        InvalidInput: a required slice that no blocking rule judges, fewer approvals than the policy asks for, a data
            set that the policy excludes, or a parent of another model.
        Conflict: the ledger holds another policy under this name and version, or the operator sets the terms.
    """
    known = ctx.ledger.find(Parent, model)
    if not known:
        raise NotFound(f"the model {model} is not registered; register its parent first")
    _require_people(ctx, model)
    wrong = [
        f"the parent {one} is of {found.model}, not of {model}"
        for one in draft.parents
        if (found := ctx.ledger.get(Parent, one)).model != model
    ]
    fields = terms_fields(ctx, model, policy, draft, wrong)
    fields["parents"] = draft.parents or tuple(one.digest for one in known)
    try:
        made = TermsProposal(**fields, proposed_by=person)
    except ValidationError as error:
        raise InvalidInput(f"these terms of {model} can't be used", faults_of(error)) from error
    ctx.ledger.append(policy, made, actor=person)
    return made


def _require_people(ctx: Context, model: str) -> None:
    if model in ctx.operator_models:
        raise Conflict(f"the operator's settings set the terms of {model} (AUDITSVC_TERMS_FILE); people can't")


def terms_fields(
    ctx: Context, model: str, policy: Policy, draft: TermsDraft, wrong: Sequence[str] = ()
) -> dict[str, Any]:
    """The fields of terms from a draft and its policy; ``wrong`` is what was found wrong before.

    Raises:
        InvalidInput: what doesn't fit the policy, with every fault.
    """
    if faults := [*_policy_faults(policy, draft), *wrong]:
        raise InvalidInput(f"these terms of {model} can't be used", faults)
    return {
        "model": model,
        "policy": policy.digest,
        "policy_name": f"{policy.policy}-{policy.version}",
        "datasets": tuple(dict.fromkeys(draft.datasets)),
        "slices": draft.slices or None,
        "approvals": draft.approvals or policy.approvals,
        "roles": policy.roles if draft.roles is None else draft.roles,
        "parents": draft.parents or None,
        "unmarked": draft.unmarked or None,
        "reason": draft.reason,
        "at": ctx.clock.now(),
    }


def _policy_faults(policy: Policy, draft: TermsDraft) -> list[str]:
    blocking = [rule for rule in policy.rules if rule.severity == "block"]
    faults = [
        f"the slice {name}: no blocking rule of {policy.policy} judges it; require slices that a rule judges"
        for name in draft.slices
        if not any(rule.selects(name) for rule in blocking)
    ]
    if draft.approvals is not None and draft.approvals < policy.approvals:
        faults.append(f"approvals: {draft.approvals}; the policy {policy.policy} asks for {policy.approvals}")
    if policy.datasets:
        other = [one for one in draft.datasets if one not in policy.datasets]
        faults += [f"the data set {one}: the policy {policy.policy} does not accept evidence of it" for one in other]
    return faults


def confirm_terms(ctx: Context, proposal: TermsProposal, person: str) -> ReleaseTerms:
    """Confirm proposed terms: from now on they bind the model.  Confirming again returns the same terms.

    Raises:
        Conflict: the person proposed them, a newer proposal or newer terms replaced them, or the operator sets them.
    """
    _require_people(ctx, proposal.model)
    known = binding_terms(ctx.ledger, proposal.model)
    if known and known.proposal == proposal.digest:
        return known
    if pending_terms(ctx.ledger, proposal.model) != proposal:
        raise Conflict(f"a newer proposal replaced these terms of {proposal.model}; confirm the newest one")
    if person_key(proposal.proposed_by) == person_key(person):
        raise Conflict(f"{person} proposed these terms; another person must confirm them")
    fields = proposal.model_dump() | {"proposal": proposal.digest, "confirmed_by": person, "at": ctx.clock.now()}
    terms = ReleaseTerms.model_validate(fields)
    ctx.ledger.append(terms, actor=person)
    return terms


def require_binding(view: View, decision: Decision) -> ReleaseTerms:
    """The terms under which this decision can be approved and released now.

    Raises:
        NotApproved: it is a trial, it was made under earlier terms, another data set of the terms isn't approved, or
            the candidate has a file that can't be released.
        Conflict: a newer decision supersedes it.
    """
    candidate = view.get(Candidate, decision.candidate)
    if candidate.unproven:
        raise NotApproved(unproven_files(candidate.unproven))
    model = candidate.model
    terms = binding_terms(view, model)
    if terms is None:
        raise NotApproved(
            f"this decision is a trial: no terms bind {model}. Two people set them (`auditsvc terms set`, then "
            "`auditsvc terms confirm`); then audit the candidate again"
        )
    if decision.terms != terms.digest:
        why = "it is a trial" if decision.trial else f"it was made under the earlier terms {decision.terms}"
        raise NotApproved(
            f"this decision does not count under the terms of {model}: {why}. Audit the candidate again under the "
            f"policy {terms.policy_name} on the data set of the terms"
        )
    known = view.find(Decision, f"{decision.candidate}|{decision.policy}")
    newest = [one for one in known if one.supersedes(decision)]
    if newest and newest[-1].digest != decision.digest:
        raise Conflict(f"this decision is superseded by a newer one ({newest[-1].digest}, {newest[-1].outcome})")
    others = other_decisions(view, terms, decision)
    if lacking := [name for name, one in others.items() if one is None or one.outcome != "approved"]:
        raise NotApproved(f"the terms of {model} name more data sets; not approved on: {', '.join(lacking)}")
    if waived := [one.digest for one in others.values() if one and not set(one.waivers) <= set(decision.waivers)]:
        raise NotApproved(
            f"the decision {waived[0]} on another data set of the terms rests on a waiver that this one does not name: "
            "approve and release that decision, so that the release states the waiver and ends with it"
        )
    return terms


def unproven_files(names: Iterable[str]) -> str:
    """Why a candidate with these files can't be released, and what can be."""
    return (
        f"{', '.join(names)} can't be released: it is not proven that an answer does not depend on the rest of the "
        "batch. Send it with a batch size of 1 (ONNX also with a free one), or send weights, which auditsvc exports"
    )


def other_decisions(view: View, terms: ReleaseTerms, decision: Decision) -> dict[Digest, Decision | None]:
    """The newest binding decision on each data set of the terms that this one is not of; a release rests on all."""
    known = view.find(Decision, f"{decision.candidate}|{decision.policy}")
    newest = {one.digest: each for each in known if each.terms == terms.digest for one in each.data or ()}
    own = {one.digest for one in decision.data or ()}
    return {name: newest.get(name) for name in terms.datasets if name not in own}


def open_alarm(view: View, release: Release) -> Alarm | None:
    """The newest alarm about a release that still needs a review; None where there is none, or the release was revoked,
    or the newest decision on the same question approves again."""
    alarms = view.find(Alarm, release.digest)
    if not alarms or view.find(Revocation, release.digest):
        return None
    raised = view.get(Decision, alarms[-1].decision)
    newest = [one for one in view.find(Decision, f"{raised.candidate}|{raised.policy}") if one.supersedes(raised)]
    return None if newest and newest[-1].outcome == "approved" else alarms[-1]


def same_answers(view: View, candidate: Candidate) -> tuple[Digest, ...]:
    """This candidate and others with the same weights or runtime file: another card or note makes no other model."""
    found = {candidate.digest: candidate}
    for name in answering_files(candidate.files):
        found |= {one.digest: one for one in view.find(Candidate, name)}
    return tuple(found)


def past_decisions(view: View, candidate: Candidate) -> tuple[PastDecision, ...]:
    """Every decision on a candidate and on others with the same weights, oldest first, with its data; an approver sees
    the ones that went otherwise."""
    found = [one for digest in same_answers(view, candidate) for one in view.find(Decision, digest)]
    return tuple(
        PastDecision(
            decision=one.digest,
            outcome=one.outcome,
            policy=one.policy,
            policy_name=one.policy_name,
            data=audited_data(view, one),
            terms=one.terms,
            at=one.at,
        )
        for one in sorted(found, key=lambda one: one.at)
    )


Inputs = TypeVar("Inputs", bound=DecisionRecords)


def decision_records(
    kind: type[Inputs], view: View, model: str, version: str, candidate: Candidate, decision: Decision
) -> Inputs:
    """All records behind one decision on one submitted version.

    Raises:
        NotFound: one of them is not in the ledger.
    """
    submitted = view.find(Submission, candidate.digest)
    return kind(
        model=model,
        version=version,
        candidate=candidate,
        parent=view.get(Parent, candidate.parent),
        policy=view.get(Policy, decision.policy),
        decision=decision,
        evidence=tuple(view.get(Evidence, digest) for digest in decision.evidence),
        approvals=view.find(Approval, decision.digest),
        waivers=tuple(view.get(Waiver, digest) for digest in decision.waivers),
        submitter=submitted[0].submitter if submitted else "",
        terms=view.get(ReleaseTerms, decision.terms) if decision.terms else None,
        earlier=tuple(
            one for one in past_decisions(view, candidate) if one.decision != decision.digest and one.at <= decision.at
        ),  # what follows can't be in its statements
        made_from=data_uses(view, candidate, decision.at),
    )


def data_uses(view: View, candidate: Candidate, at: Moment) -> tuple[DataUse, ...]:
    """The data sets that are recorded to have made a candidate and its parent, with the cards of that time."""
    found = []
    for whose, model in (("parent", candidate.parent), ("candidate", candidate.digest)):
        for use in (one for one in view.find(ImagesSeen, model) if one.at <= at):
            cards = [one for one in view.find(DataCard, use.dataset) if one.at <= at]
            names = [one.name for one in view.find(DatasetImages, use.dataset)]
            found.append(
                DataUse(
                    purpose=f"{use.purpose} of the {whose}",
                    name=names[-1] if names else use.dataset,
                    dataset=use.dataset,
                    card=max(cards, key=lambda one: one.at, default=None),
                )
            )
    return tuple(found)


def audited_data(view: View, decision: Decision) -> tuple[AuditedData, ...]:
    """The data of a decision; for a record of version 0.1 from its evidence."""
    if decision.data is not None:
        return decision.data
    found = {}
    for digest in decision.evidence:
        ref = view.get(Evidence, digest).dataset
        found[ref.digest] = AuditedData(name=ref.name, digest=ref.digest, images=ref.images)
    return tuple(found[key] for key in sorted(found))


def satisfied_by(terms: ReleaseTerms, view: View, decision: Decision) -> bool:
    """Whether a decision without terms, of version 0.1, is what these terms ask for: policy, data and parent."""
    candidate = view.get(Candidate, decision.candidate)
    return not terms.objections(candidate, decision.policy, (one.digest for one in audited_data(view, decision)))
