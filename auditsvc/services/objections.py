"""Objections: a person rejects a decision that the gate approves, or requests changes, with a reason.

The newest objection of a person counts.  While one is open this decision can't be approved or released; the person
who made it withdraws it.  It holds for every decision under the same policy and terms on the same data about candidates
with the same weights, so neither judging again nor submitting them again with another note removes it.
"""

from __future__ import annotations

from auditsvc.errors import Conflict, InvalidInput
from auditsvc.ports import Context, View
from auditsvc.records import Candidate, Decision, Objection, Release, person_key
from auditsvc.records.decision import ObjectionState
from auditsvc.services.terms import same_answers


def open_objections(view: View, decision: Decision) -> tuple[Objection, ...]:
    """The newest objection of each person to this question, without the withdrawn ones, oldest first."""
    twins = same_answers(view, view.get(Candidate, decision.candidate))
    known = (one for twin in twins for one in view.find(Decision, f"{twin}|{decision.policy}"))
    found = [item for one in known if one.asks_as(decision) for item in view.find(Objection, one.digest)]
    newest = {person_key(one.person): one for one in sorted(found, key=lambda one: one.at)}
    return tuple(sorted((one for one in newest.values() if one.state != "withdrawn"), key=lambda one: one.at))


def require_unopposed(view: View, decision: Decision) -> None:
    """Check that no objection is open.  Raises ``Conflict``."""
    found = open_objections(view, decision)
    if found:
        words = "; ".join(f"{one.words} ({one.reason})" for one in found)
        raise Conflict(f"{words}. Resolve it and let {found[0].person} withdraw it, or submit a new version")


def object_to(ctx: Context, decision: Decision, person: str, state: ObjectionState, reason: str) -> Objection:
    """Reject a decision or request changes in a person's name, or withdraw that person's open objection.

    Raises:
        InvalidInput: no reason is given.
        Conflict: the version was released on this decision, or there is no objection of this person to withdraw.
    """
    if not reason.strip():
        raise InvalidInput("give a reason: it is recorded, and the submitter acts on it")
    if ctx.ledger.find(Release, decision.digest):
        raise Conflict("this version was released on this decision; revoke the release or roll back")
    own = [one for one in open_objections(ctx.ledger, decision) if person_key(one.person) == person_key(person)]
    if state == "withdrawn" and not own:
        raise Conflict(f"{person} has no open objection to this decision")
    made = Objection(
        decision=decision.digest,
        candidate=decision.candidate,
        person=person,
        state=state,
        reason=reason.strip(),
        at=ctx.clock.now(),
    )
    ctx.ledger.append(made, actor=person)
    return made
