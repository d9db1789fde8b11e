"""Which waivers count for a decision, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from auditsvc.records.base import Moment
from auditsvc.records.decision import Judgement, Waiver
from auditsvc.records.model import Candidate
from auditsvc.records.policy import Policy


def sorted_waivers(
    policy: Policy, candidate: Candidate, waivers: Iterable[Waiver], at: Moment
) -> tuple[dict[str, Waiver], list[str]]:
    """The waivers in force, by rule, and a note for each one of this candidate that does not count."""
    rules = {rule.rule: rule for rule in policy.rules}
    in_force: dict[str, Waiver] = {}
    notes = []
    for waiver in sorted(waivers, key=lambda one: (one.until, one.digest)):
        if waiver.candidate != candidate.digest or waiver.policy != policy.digest:
            continue
        rule = rules.get(waiver.rule)
        if rule is None:
            notes.append(f"the waiver of {waiver.rule} by {waiver.person} matches no rule of the policy")
        elif rule.waivers == "never":
            notes.append(f"the waiver of {waiver.rule} by {waiver.person} does not count: the policy allows none")
        elif waiver.at > at or at.date() > waiver.until:
            when = f"ended on {waiver.until}" if at.date() > waiver.until else "is from after this decision"
            notes.append(f"the waiver of {waiver.rule} by {waiver.person} {when}")
        else:
            in_force[waiver.rule] = waiver
    return in_force, notes


def waived(judgement: Judgement, waivers: Mapping[str, Waiver]) -> Judgement:
    """The judgement with the waiver that covers it, if it needs one and there is one."""
    waiver = waivers.get(judgement.rule)
    if waiver is None or judgement.verdict == "met":
        return judgement
    return judgement.model_copy(update={"waiver": waiver.digest})
