"""The gate: policy and evidence in, decision out.  A pure function: no clock, no file, no registry.

A rule is ``met`` only if the *pessimistic* end of the interval keeps its limit, so doubt counts against the
candidate.  It is ``violated`` if the other end breaks it too, or, for a loss against the parent, if the loss
itself is shown (its lower bound is above zero) and its estimate is over the limit.  Everything else, and
everything that was not measured, is too old, or belongs to another candidate, is ``unknown``.

Approval needs every blocking rule: an intersection-union test, so that the chance of approving a candidate
that breaks any one of them is at most alpha, without correction for their number.

Reference: R. L. Berger (1982), "Multiparameter Hypothesis Testing and Acceptance Sampling",
doi:10.1080/00401706.1982.10487790.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from auditsvc.records import (
    EACH,
    OVERALL,
    Candidate,
    Decision,
    Evidence,
    Judgement,
    Measured,
    Moment,
    Outcome,
    Policy,
    Rule,
    Severity,
    Unmeasured,
    Verdict,
    Waiver,
)


def decide(
    policy: Policy,
    candidate: Candidate,
    evidence: Iterable[Evidence],
    *,
    waivers: Iterable[Waiver] = (),
    at: Moment,
) -> Decision:
    """Judge one candidate by every rule of the policy.

    Evidence that is not this candidate's, not of the pinned check, version, parameters and seed, or too old, is
    left out, and the rules that needed it say so.
    """
    given = tuple(evidence)
    fitting = {check: _fitting(policy, candidate, given, check, at) for check in policy.checks}
    in_force = {waiver.rule: waiver for waiver in waivers if _in_force(waiver, policy, candidate, at)}
    judgements = tuple(
        _waived(judgement, in_force)
        for rule in policy.rules
        for judgement in _judged(rule, fitting.get(rule.check, f"the policy does not run {rule.check}"))
    )
    used = sorted({judgement.evidence for judgement in judgements if judgement.evidence})
    return Decision(
        candidate=candidate.digest,
        policy=policy.digest,
        policy_name=f"{policy.policy}-{policy.version}",
        outcome=_outcome(judgements),
        judgements=judgements,
        evidence=tuple(used),
        waivers=tuple(sorted({judgement.waiver for judgement in judgements if judgement.waiver})),
        at=at,
    )


def _fitting(
    policy: Policy, candidate: Candidate, evidence: tuple[Evidence, ...], check: str, at: Moment
) -> Evidence | str:
    """The newest evidence of this check that the policy accepts, or why there is none."""
    spec = policy.checks[check]
    why = f"no evidence of {check} for this candidate"
    best: Evidence | None = None
    for item in evidence:
        key = item.key
        if key.check != check:
            continue
        if (key.candidate, key.parent) != (candidate.digest, candidate.parent):
            why = f"the evidence of {check} is another candidate's"
        elif (key.version, key.parameters, key.seed, key.alpha) != (
            spec.version,
            spec.parameters,
            policy.seed,
            policy.alpha,
        ):
            why = f"the evidence of {check} is not of the version, parameters, seed and alpha that the policy pins"
        elif policy.datasets and key.dataset not in policy.datasets:
            why = f"the evidence of {check} is of a data set that the policy does not name"
        elif at - item.finished > datetime.timedelta(days=policy.max_age_days) or item.finished > at:
            why = f"the evidence of {check} is not from the {policy.max_age_days} days before this decision"
        elif best is None or item.finished > best.finished:
            best = item
    return best or why


def _judged(rule: Rule, evidence: Evidence | str) -> Iterator[Judgement]:
    """One judgement for each metric and slice that the rule names; at least one, always."""
    if isinstance(evidence, str):
        yield _judgement(rule, rule.metric, _named(rule), Unmeasured(reason=evidence), None)
        return
    metrics = sorted({item.metric for item in evidence.readings if fnmatchcase(item.metric, rule.metric)})
    if not metrics:
        reason = f"{rule.check} gave no reading named {rule.metric}"
        yield _judgement(rule, rule.metric, _named(rule), Unmeasured(reason=reason), evidence)
    for metric in metrics:
        known = [item.slice for item in evidence.readings if item.metric == metric]
        for name in _chosen(rule, known):
            yield _judgement(rule, metric, name, evidence.reading(metric, name), evidence)


def _named(rule: Rule) -> str:
    return rule.slices if isinstance(rule.slices, str) else ", ".join(rule.slices)


def _chosen(rule: Rule, known: list[str]) -> list[str]:
    """The slices of a rule; a name that the evidence lacks stays in the list and will be unknown."""
    if rule.slices == EACH:
        return [name for name in known if name != OVERALL] or [EACH]
    patterns = (rule.slices,) if isinstance(rule.slices, str) else rule.slices
    chosen = [[name for name in known if fnmatchcase(name, pattern)] or [pattern] for pattern in patterns]
    return list(dict.fromkeys(name for names in chosen for name in names))


def _judgement(
    rule: Rule, metric: str, slice_name: str, outcome: Measured | Unmeasured, evidence: Evidence | None
) -> Judgement:
    severity: Severity = rule.severity
    if outcome.images < rule.min_images and slice_name != OVERALL and evidence is not None:
        severity = "warn" if "warn" in (rule.severity, rule.below_minimum) else "block"
        seen = f"{outcome.images} images; the rule judges slices of at least {rule.min_images}"
        outcome = Unmeasured(reason=seen, images=outcome.images)
    verdict = _verdict(rule, metric, outcome)
    return Judgement(
        rule=rule.rule,
        metric=f"{rule.check}/{metric}",
        slice=slice_name,
        verdict=verdict,
        severity=severity,
        bound="at_least" if rule.at_least is not None else "at_most",
        limit=rule.limit,
        outcome=outcome,
        evidence=evidence.digest if evidence else None,
        words=_words(rule, metric, slice_name, outcome, verdict),
    )


def _verdict(rule: Rule, metric: str, outcome: Measured | Unmeasured) -> Verdict:
    if isinstance(outcome, Unmeasured):
        return "unknown"
    if rule.at_least is not None:
        if outcome.low >= rule.limit:
            return "met"
        return "violated" if outcome.high < rule.limit else "unknown"
    if outcome.high <= rule.limit:
        return "met"
    shown = metric.startswith("drop.") and outcome.low > 0 and outcome.value > rule.limit
    return "violated" if outcome.low > rule.limit or shown else "unknown"


def _in_force(waiver: Waiver, policy: Policy, candidate: Candidate, at: Moment) -> bool:
    return (
        waiver.candidate == candidate.digest
        and waiver.policy == policy.digest
        and waiver.at <= at
        and at.date() <= waiver.until
    )


def _waived(judgement: Judgement, waivers: dict[str, Waiver]) -> Judgement:
    waiver = waivers.get(judgement.rule)
    if waiver is None or judgement.verdict == "met":
        return judgement
    return judgement.model_copy(update={"waiver": waiver.digest})


def _outcome(judgements: tuple[Judgement, ...]) -> Outcome:
    open_ones = {item.verdict for item in judgements if item.severity == "block" and item.waiver is None}
    if "violated" in open_ones:
        return "rejected"
    return "inconclusive" if "unknown" in open_ones else "approved"


def _words(rule: Rule, metric: str, slice_name: str, outcome: Measured | Unmeasured, verdict: Verdict) -> str:
    """The judgement as a sentence that somebody can act on."""
    place = f"{rule.check}/{metric} on {slice_name}"
    bound = "at least" if rule.at_least is not None else "at most"
    unit = " points" if metric.startswith("drop.") else " %" if _is_share(metric) else ""
    wanted = f"{bound} {_number(metric, rule.limit)}{unit} wanted"
    if isinstance(outcome, Unmeasured):
        return f"{place}: not known, {outcome.reason}; {wanted}"
    value, low, high = (_number(metric, number) for number in (outcome.value, outcome.low, outcome.high))
    ends = f"({low} to {high}; {outcome.images} images)" if low != high else f"({outcome.images} images)"
    return f"{place}: {value}{unit} {ends}; {wanted}{_more_images(rule, outcome, verdict)}"


def _more_images(rule: Rule, outcome: Measured, verdict: Verdict) -> str:
    """For an unknown: how many images would decide it, if the estimate stays (the width falls as 1/sqrt(n))."""
    if verdict != "unknown":
        return ""
    gap = abs(rule.limit - outcome.value)
    reach = (outcome.high - outcome.value) if outcome.value <= rule.limit else (outcome.value - outcome.low)
    if gap <= 0 or reach <= 0:
        return "; the estimate lies on the limit, no number of images would decide it"
    return f"; about {math.ceil(outcome.images * (reach / gap) ** 2)} images would decide it"


def _number(metric: str, value: float) -> str:
    if metric.startswith("drop."):
        return f"{100 * value:+.1f}"
    return f"{100 * value:.1f}" if _is_share(metric) else f"{value:.4g}"


def _is_share(metric: str) -> bool:
    return metric.startswith(("score.", "parent.")) or metric in ("flips", "bits")
