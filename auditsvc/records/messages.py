"""Judgements, policies and decisions in words, and the differences between two policies.

A judgement says what was measured, which limit applies, and how many images would decide an unknown; a difference says
whether the newer policy is stricter or laxer.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from statistics import NormalDist
from typing import Any

from auditsvc.records.decision import Decision, Judgement
from auditsvc.records.evidence import Measured, Unmeasured
from auditsvc.records.metric import Metric
from auditsvc.records.policy import Policy, Rule

POWER = 0.8
"""The probability with which the estimated number of further images would decide an unknown."""


_TOO_MANY = 20
"""An estimate above this multiple of the available images is reported as too near the limit."""


def finding_message(
    rule: Rule, metric: Metric, slice_name: str, outcome: Measured | Unmeasured, needed: int | None
) -> str:
    """One judgement in words; ``needed`` is the number of images that would decide an unknown, if any would."""
    place = f"{rule.check}/{metric.id} on {slice_name}{' less the incumbent' if rule.of else ''}"
    bound = "at least" if rule.at_least is not None else "at most"
    shown = metric.difference() if rule.of else metric
    unit = f" {shown.unit}" if shown.unit else ""
    wanted = f"{bound} {shown.text(rule.limit)}{unit} wanted"
    if isinstance(outcome, Unmeasured):
        return f"{place}: not known, {outcome.reason}; {wanted}"
    value, low, high = (shown.text(number) for number in (outcome.value, outcome.low, outcome.high))
    counted = f"{metric.counts or 'image'}s"
    seen = "exact" if metric.counts == "exact" else f"{outcome.images} {counted}"
    if outcome.clusters and outcome.clusters != outcome.images:
        seen += f" in {outcome.clusters} clusters"
    ends = f"({low} to {high}; {seen})" if low != high else f"({seen})"
    whose = f" for {outcome.which}" if outcome.which else ""
    return f"{place}: {value}{unit}{whose} {ends}; {wanted}{_deciding(needed, outcome.images, counted)}"


def _deciding(needed: int | None, images: int, counted: str) -> str:
    """What would decide an unknown, or that nothing at hand would."""
    if needed is None:
        return ""
    if needed > _TOO_MANY * images:
        return f"; too near the limit for any number of {counted} at hand"
    return f"; about {needed} {counted} would decide it"


def images_to_decide(rule: Rule, metric: Metric, outcome: Measured, alpha: float) -> int:
    """How many images would decide an unknown with power 0.8, if the estimate and its spread stay as they are.

    ``sys.maxsize`` where the estimate is equal to the limit.  The variance of one image is that
    of a paired difference where the images lost and won are known, of a proportion for a share, and else the
    one that the interval's width implies.
    """
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(POWER)
    gap = abs(rule.limit - outcome.value)
    if outcome.lost is not None and outcome.won is not None and not _is_graded(outcome, outcome.lost - outcome.won):
        changing = max(outcome.lost + outcome.won, 1) / outcome.images
        reach = reach_of_loss(changing, outcome.value, rule.limit, alpha, POWER)
    elif rule.of is None and metric.kind == "proportion" and 0 < outcome.value < 1:
        at_limit = min(max(rule.limit, 0.0), 1.0)
        reach = z_alpha * math.sqrt(at_limit * (1 - at_limit)) + z_power * math.sqrt(
            outcome.value * (1 - outcome.value)
        )
    else:
        width = max(outcome.high - outcome.value, outcome.value - outcome.low)
        reach = (z_alpha + z_power) * math.sqrt(outcome.images) * width / z_alpha
    if reach * reach >= sys.maxsize * gap * gap:
        return sys.maxsize
    return max(math.ceil((reach / gap) ** 2), outcome.images + 1)


def _is_graded(outcome: Measured, lost: int) -> bool:
    """Whether images lose other amounts than all or nothing, so that counting them does not give the loss."""
    return abs(outcome.value * outcome.images - lost) > 1e-6 * outcome.images


def reach_of_loss(changing: float, loss: float, limit: float, alpha: float, power: float) -> float:
    """The square root of the images that a paired loss needs, times its distance from the limit.

    ``changing`` is the share of images whose answer changes, ``loss`` the share lost on balance.  The spread is
    Tango's on the limit and the ordinary one at the truth.

    Reference: T. Tango (1998), as in ``evaluation.intervals``; J.-P. Liu et al. (2002), doi:10.1002/sim.1012.
    """
    won = max(changing - loss, 0.0) / 2
    linear = -changing + (2 - loss) * limit
    rarer = (math.sqrt(max(linear * linear + 8 * won * limit * (1 - limit), 0.0)) - linear) / 4
    on_the_limit = max(2 * rarer + limit * (1 - limit), 0.0)
    z_alpha, z_power = NormalDist().inv_cdf(1 - alpha), NormalDist().inv_cdf(power)
    return z_alpha * math.sqrt(on_the_limit) + z_power * math.sqrt(max(changing - loss * loss, 0.0))


_OUTCOMES = {
    "approved": "The gate approves: every rule that can block is shown to hold.",
    "rejected": "The gate rejects: at least one rule that can block is shown to be broken.",
    "inconclusive": "The gate does not approve: nothing that blocks is shown to be broken, but not everything is "
    "shown to hold, and what is not known is not passed.",
}


def explain_policy(policy: Policy) -> Iterator[str]:
    """The policy, line by line."""
    yield f"{policy.policy}, version {policy.version}: {policy.why.strip()}"
    yield (
        f"Each rule is judged by the pessimistic end of its interval: a candidate that breaks a rule passes it with a "
        f"chance of at most {100 * policy.alpha:g} %. {policy.approvals} people other than the submitter must approve. "
        f"Evidence counts for {policy.max_age_days} days."
    )
    if policy.max_evaluations:
        many, level = policy.max_evaluations, 100 * policy.level
        yield f"{many} candidates of a model may be judged on one data set, each at {level:.3g} %."
    if policy.stages:
        shares = ", ".join(f"{100 * share:.3g}" for share in policy.stages)
        yield f"The audit may stop, decided, after {shares} % of the images; each end is at {100 * policy.level:.3g} %."
    for role, names in (policy.roles or {}).items():
        yield f"One of the approvers must be {' or '.join(names)}, as {role}."
    for rule in policy.rules:
        yield f"{rule.rule} ({'blocks' if rule.severity == 'block' else 'warns'}): {rule.sentence()}{_exceptions(rule)}"
        yield f"    because: {rule.why.strip()}"


def _exceptions(rule: Rule) -> str:
    """What a rule says of small slices and waivers, after its sentence."""
    text = ""
    if rule.min_images > 1:
        text = f"; a slice of fewer than {rule.min_images} images can fail, never pass, and "
        text += "does not block while it is unknown" if rule.below_minimum == "warn" else "blocks while it is unknown"
    return text + ("; it can't be waived" if rule.waivers == "never" else "")


def explain_decision(decision: Decision, policy: Policy) -> Iterator[str]:
    """The decision, line by line: the outcome, what speaks against it with the rule's reason, what was waived."""
    rules = {rule.rule: rule for rule in policy.rules}
    held = sum(item.verdict == "met" for item in decision.judgements)
    yield _OUTCOMES[decision.outcome]
    total, day = len(decision.judgements), f"{decision.at:%d %B %Y}"
    yield f"{held} of {total} judgements hold, under {decision.policy_name}, on {day}."
    against = [item for item in decision.findings if item.severity == "block" and item.waiver is None]
    waived = [item for item in decision.findings if item.waiver is not None]
    warned = [item for item in decision.findings if item.severity == "warn" and item.waiver is None]
    yield from _group("Not met:", against, rules)
    yield from _group("Violated or unknown, and waived by a named person:", waived, rules)
    yield from _group("Warnings:", warned, rules)
    yield from (f"Note: {note}." for note in decision.notes or ())


def _group(title: str, items: list[Judgement], rules: dict[str, Rule]) -> Iterator[str]:
    if not items:
        return
    yield title
    for item in items:
        yield f"  {item.verdict}: {item.words}"
    for name in dict.fromkeys(item.rule for item in items):
        if name in rules:
            yield f"  {name} is required because: {rules[name].why.strip()}"


_PARTS = {"checks", "rules", "kind"}


def differences(old: Policy, new: Policy) -> tuple[str, ...]:
    """One line for each difference, in the order of the policy; none where both have one digest."""
    return (*_fields(old, new), *_checks(old, new), *_rules(old, new))


def _fields(old: Policy, new: Policy) -> list[str]:
    before, after = old.model_dump(mode="json"), new.model_dump(mode="json")
    return _changed("", before, after, skip=_PARTS)


def _changed(where: str, before: dict[str, Any], after: dict[str, Any], skip: set[str]) -> list[str]:
    return [
        f"{where}{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}{_kept_shorter(name, before, after)}"
        for name in dict.fromkeys((*before, *after))
        if name not in skip and before.get(name) != after.get(name)
    ]


_STRICTER_IF_LARGER = {"approvals": True, "alpha": False, "max_age_days": False, "min_images": False}


def _kept_shorter(name: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """Whether a changed number of the policy itself is stricter or laxer."""
    larger = _STRICTER_IF_LARGER.get(name)
    if larger is None or before.get(name) is None or after.get(name) is None:
        return ""
    return " (stricter)" if (after[name] > before[name]) == larger else " (laxer)"


def _shown(value: Any) -> str:
    return "nothing" if value is None else str(value)


def _checks(old: Policy, new: Policy) -> list[str]:
    lines = [f"check {name} is not run any more" for name in old.checks if name not in new.checks]
    for name, spec in new.checks.items():
        known = old.checks.get(name)
        if known is None:
            lines.append(f"check {name} is new")
        elif known != spec:
            if known.version != spec.version:
                lines.append(f"check {name}: version {known.version} -> {spec.version}")
            lines += _changed(f"check {name}: ", known.parameters, spec.parameters, skip=set())
    return lines


def _rules(old: Policy, new: Policy) -> list[str]:
    before = {rule.rule: rule for rule in old.rules}
    after = {rule.rule: rule for rule in new.rules}
    lines = [f"rule {name} is gone (laxer): {rule.sentence()}" for name, rule in before.items() if name not in after]
    for name, rule in after.items():
        known = before.get(name)
        if known is None:
            lines.append(f"rule {name} is new (stricter): {rule.sentence()}")
        else:
            fields = _changed(f"rule {name}: ", known.model_dump(mode="json"), rule.model_dump(mode="json"), skip=set())
            lines += [f"{line}{_tendency(line, known, rule)}" for line in fields]
    return lines


def _tendency(line: str, old: Rule, new: Rule) -> str:
    """Whether a changed number or severity is stricter or laxer, where that can be determined."""
    field = line.partition(": ")[2].partition(": ")[0]
    if field == "severity":
        return " (stricter)" if new.severity == "block" else " (laxer)"
    if field == "below_minimum":
        return " (stricter)" if new.below_minimum == "block" else " (laxer)"
    if field in ("at_least", "at_most") and (old.at_least is None) == (new.at_least is None):
        higher = new.limit > old.limit
        return " (stricter)" if higher == (new.at_least is not None) else " (laxer)"
    return ""
