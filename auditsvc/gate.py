"""The gate: policy and evidence in, decision out.  A pure function: no clock, no file, no registry.

A rule is ``met`` only if the *pessimistic* end of the interval keeps its limit, so uncertainty counts against the
candidate.  It is ``violated`` if the other end breaks the limit too, or, for a loss against the parent, if the estimate
is over the limit and the loss is significant under Holm's correction over the rule's family.  Everything else is
``unknown``: not measured, too old, contradictory or about another candidate.

Approval needs every blocking rule: an intersection-union test, so the probability of approving a candidate that
breaks any one of them is at most alpha, without correction for their number.  The meaning of a metric (loss, unit) is
read from the declarations in the evidence.

Reference: R. L. Berger (1982), "Multiparameter Hypothesis Testing and Acceptance Sampling",
doi:10.1080/00401706.1982.10487790.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from auditsvc.records import (
    OVERALL,
    AuditedData,
    Candidate,
    Decision,
    Digest,
    Evidence,
    Judgement,
    Measured,
    Metric,
    Moment,
    Outcome,
    Policy,
    ReleaseTerms,
    Rule,
    Severity,
    Unmeasured,
    Verdict,
    Waiver,
    matches,
    metric_of,
)
from auditsvc.records.eligibility import (
    HoldoutUses,
    Incumbent,
    eligible_evidence,
    evaluation_of,
    holdout_exhausted,
    holdout_note,
)
from auditsvc.records.evidence import difference, holm
from auditsvc.records.messages import finding_message, images_to_decide

UNUSED: HoldoutUses = {}
Readings = Mapping[tuple[str, str], Measured | Unmeasured]
Eligible = Mapping[str, Evidence | str]
"""For each check its evidence, or why none is eligible."""


def decide(
    policy: Policy,
    candidate: Candidate,
    evidence: Iterable[Evidence],
    *,
    waivers: Iterable[Waiver] = (),
    incumbent: Incumbent | None = None,
    holdout_uses: HoldoutUses = UNUSED,
    terms: ReleaseTerms | None = None,
    at: Moment,
) -> Decision:
    """Judge one candidate by every rule of the policy.  The order of evidence and waivers changes nothing.

    The decision is binding if policy, data and parent are those of the ``terms``; else it is a trial, in which their
    required slices are judged too.  Evidence that is not eligible (``records.eligibility``) is left out, and the rules
    that needed it state the reason.  Rules that compare with the ``incumbent`` are not judged while nothing is
    released.
    """
    evidence = tuple(evidence)
    data = _audited_data(one for one in evidence if one.key.candidate == candidate.digest)
    trial = terms.objections(candidate, policy.digest, (one.digest for one in data)) if terms else ()
    binding = None if trial else terms
    rules = tuple(binding.adapted(rule, candidate) for rule in policy.rules) if binding else policy.rules
    required = (terms.slices if terms else None) or {}
    eligible = eligible_evidence(policy, candidate, evidence, at, holdout_uses)
    if exhausted := holdout_exhausted(policy, holdout_uses):
        eligible = dict.fromkeys(eligible, exhausted)
    instances = [one for rule in rules if rule.of is None for one in _instances(rule, eligible, required)]
    compared = [rule for rule in rules if rule.of]
    if compared and incumbent:
        images = {item.key.dataset for item in eligible.values() if isinstance(item, Evidence)}
        same = [item for item in incumbent.evidence if item.key.dataset in images]
        released = eligible_evidence(policy, incumbent.candidate, same, at, incumbent.uses)
        ours = (one for rule in compared for one in _instances(rule, eligible, required))
        instances += [_less_incumbent(one, released) for one in ours]
    in_force, notes = sort_waivers(policy, candidate, waivers, at)
    tested = zip(instances, holm((one.family, one.p) for one in instances), strict=True)
    levels = policy.level, policy.level_of(evaluation_of(holdout_uses))
    judgements = tuple(apply_waiver(_judgement(one, p, *levels), in_force) for one, p in tested)
    open_rules = {judgement.rule for judgement in judgements if judgement.verdict != "met"}
    notes += [] if incumbent else [f"{rule.rule} was not judged: nothing is released yet" for rule in compared]
    notes += holdout_note(policy, holdout_uses)
    notes += [f"the waiver of {rule} is not needed: the rule is met" for rule in sorted(set(in_force) - open_rules)]
    notes += [f"a trial, not under the terms of {candidate.model}: {reason}" for reason in trial]
    return Decision(
        candidate=candidate.digest,
        policy=policy.digest,
        policy_name=f"{policy.policy}-{policy.version}",
        outcome=_outcome(judgements),
        judgements=judgements,
        evidence=tuple(sorted({judgement.evidence for judgement in judgements if judgement.evidence})),
        waivers=tuple(sorted({judgement.waiver for judgement in judgements if judgement.waiver})),
        incumbent=incumbent.candidate.digest if compared and incumbent else None,
        notes=tuple(notes) or None,
        terms=binding.digest if binding else None,
        data=data or None,
        at=at,
    )


def _audited_data(evidence: Iterable[Evidence]) -> tuple[AuditedData, ...]:
    """The data sets of the evidence, with the largest number of images that a check measured."""
    images: dict[tuple[Digest, str], int] = {}
    for item in evidence:
        key = (item.key.dataset, item.dataset.name)
        images[key] = max(images.get(key, 0), item.key.stage or item.dataset.images)
    return tuple(AuditedData(name=name, digest=digest, images=n) for (digest, name), n in sorted(images.items()))


@dataclass(frozen=True)
class _RuleInstance:
    """One rule applied to one metric on one slice."""

    rule: Rule
    metric: Metric
    slice: str
    outcome: Measured | Unmeasured
    severity: Severity
    evidence: Digest | None
    too_small: bool = False
    against: Digest | None = None

    @property
    def family(self) -> str:
        """The family of tests that this loss belongs to."""
        return self.rule.family or self.rule.rule

    @property
    def is_loss(self) -> bool:
        """Whether it is a loss against the parent, and not one less the incumbent's."""
        return self.metric.role == "loss" and self.rule.of is None

    @property
    def p(self) -> float | None:
        """The p-value of no loss, where this is a measured loss."""
        return self.outcome.p if isinstance(self.outcome, Measured) and self.is_loss else None


def _instances(rule: Rule, eligible: Eligible, required: Mapping[str, int]) -> list[_RuleInstance]:
    """One instance for each metric and slice that the rule selects; at least one, always.

    ``required`` slices are judged also where the data set lacks them, and are never excused for being too small.
    """
    found = eligible.get(rule.check, f"the policy does not run {rule.check}")
    if isinstance(found, str):
        return [_unmatched(rule, found, None)]
    readings = _readings(found)
    metrics = sorted({metric for metric, _ in readings if matches(rule.metric, metric)})
    if not metrics:
        return [_unmatched(rule, f"{rule.check} gave no reading named {rule.metric}", found.digest)]
    sizes = _slice_sizes(eligible, found)
    names = dict.fromkeys((*rule.chosen(sizes), *(name for name in required if rule.selects(name))))
    instances = [
        _instance(rule, found.metric(metric), name, readings.get((metric, name)), sizes.get(name, 0), found, required)
        for metric in metrics
        for name in names
    ]
    if all(one.too_small for one in instances):
        return [replace(one, severity=rule.severity) for one in instances]
    return instances


def _unmatched(rule: Rule, reason: str, evidence: Digest | None) -> _RuleInstance:
    """The instance of a rule that selects no reading: unknown, for this reason."""
    slices = ", ".join(rule.selectors)
    return _RuleInstance(rule, metric_of(rule.metric), slices, Unmeasured(reason=reason), rule.severity, evidence)


def _readings(evidence: Evidence) -> Readings:
    """Every reading by metric and slice; one that is given twice contradicts itself and is unmeasured."""
    found: dict[tuple[str, str], Measured | Unmeasured] = {}
    for item in evidence.readings:
        key = (item.metric, item.slice)
        found[key] = (
            item.outcome if key not in found else Unmeasured(reason="the evidence gives this reading more than once")
        )
    return found


def _slice_sizes(eligible: Eligible, evidence: Evidence) -> dict[str, int]:
    """Every slice in any evidence of this data set, with the largest number of its images that any check tried.

    A check that leaves out a slice can't hide it: the evidence of the other checks names it.
    """
    sizes: dict[str, int] = {}
    for other in eligible.values():
        if isinstance(other, Evidence) and other.key.dataset == evidence.key.dataset:
            for item in other.readings:
                sizes[item.slice] = max(sizes.get(item.slice, 0), item.outcome.images)
    return sizes


def _instance(
    rule: Rule,
    metric: Metric,
    name: str,
    outcome: Measured | Unmeasured | None,
    size: int,
    found: Evidence,
    required: Mapping[str, int],
) -> _RuleInstance:
    """One reading under one rule; on a slice below ``min_images`` it is unknown, unless its limit is surely broken.

    ``below_minimum: warn`` excuses a slice only if it is too small in the whole data set, not just in this stage.
    """
    evidence, whole, least = found.digest, found.whole or {}, required.get(name, 0)
    if size < least and (outcome is None or not _breaks_limit(rule, outcome)):
        few = Unmeasured(reason=f"{size} images; the terms require {least} of this slice", images=size)
        return _RuleInstance(rule, metric, name, few, rule.severity, evidence)
    if outcome is None or (size == 0 and name != OVERALL):
        reason = "the slice is empty" if outcome else f"the check {rule.check} gave no {metric.id} for {name}"
        return _RuleInstance(rule, metric, name, Unmeasured(reason=reason), rule.severity, evidence)
    if outcome.images >= rule.min_images or _breaks_limit(rule, outcome):
        return _RuleInstance(rule, metric, name, outcome, rule.severity, evidence)
    seen = f"{outcome.images} images; the rule judges slices of at least {rule.min_images}"
    if isinstance(outcome, Unmeasured):
        seen = f"{outcome.reason}; the rule judges slices of at least {rule.min_images} images"
    unknown = Unmeasured(reason=seen, images=outcome.images)
    if name == OVERALL:
        return _RuleInstance(rule, metric, name, unknown, rule.severity, evidence)
    excused = rule.below_minimum == "warn" and not least and whole.get(name, 0) < rule.min_images
    severity: Severity = "warn" if excused else rule.severity
    return _RuleInstance(rule, metric, name, unknown, severity, evidence, too_small=True)


def _breaks_limit(rule: Rule, outcome: Measured | Unmeasured) -> bool:
    """Whether even the optimistic end of the interval breaks the limit."""
    if isinstance(outcome, Unmeasured):
        return False
    return outcome.high < rule.limit if rule.at_least is not None else outcome.low > rule.limit


def _less_incumbent(instance: _RuleInstance, released: Eligible) -> _RuleInstance:
    """The instance with its outcome less the incumbent's on the same images, or why there is none."""
    found = released.get(instance.rule.check, f"no evidence of {instance.rule.check}")
    if isinstance(instance.outcome, Unmeasured):
        return instance
    if isinstance(found, str):
        return replace(instance, outcome=Unmeasured(reason=f"of the incumbent: {found}; audit it again"))
    other = found.reading(instance.metric.id, instance.slice)
    if isinstance(other, Unmeasured):
        return replace(instance, outcome=Unmeasured(reason=f"of the incumbent: {other.reason}"))
    return replace(instance, outcome=difference(instance.outcome, other), against=found.digest)


def _judgement(instance: _RuleInstance, adjusted: float | None, alpha: float, level: float) -> Judgement:
    """Harm is shown at the policy's ``alpha``; ``level`` is the share of it that this candidate can pass with."""
    rule, metric, outcome = instance.rule, instance.metric, instance.outcome
    verdict, needed = _verdict(instance, adjusted, alpha), None
    if verdict == "unknown" and isinstance(outcome, Measured):
        needed = images_to_decide(rule, metric, outcome, level)
    return Judgement(
        rule=rule.rule,
        metric=f"{rule.check}/{metric.id}",
        slice=instance.slice,
        verdict=verdict,
        severity=instance.severity,
        bound="at_least" if rule.at_least is not None else "at_most",
        limit=rule.limit,
        outcome=outcome,
        evidence=instance.evidence,
        adjusted_p=adjusted,
        against=instance.against,
        words=finding_message(rule, metric, instance.slice, outcome, needed),
    )


def _verdict(instance: _RuleInstance, adjusted: float | None, alpha: float) -> Verdict:
    rule, outcome = instance.rule, instance.outcome
    if isinstance(outcome, Unmeasured):
        return "unknown"
    if _breaks_limit(rule, outcome):
        return "violated"
    if rule.at_least is not None:
        return "met" if outcome.low >= rule.limit else "unknown"
    if outcome.high <= rule.limit:
        return "met"
    shown = outcome.low > 0 if adjusted is None else adjusted <= alpha
    return "violated" if instance.is_loss and shown and outcome.value > rule.limit else "unknown"


def _outcome(judgements: Sequence[Judgement]) -> Outcome:
    open_ones = {item.verdict for item in judgements if item.severity == "block" and item.waiver is None}
    if "violated" in open_ones:
        return "rejected"
    return "inconclusive" if "unknown" in open_ones else "approved"


def sort_waivers(
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


def apply_waiver(judgement: Judgement, waivers: Mapping[str, Waiver]) -> Judgement:
    """The judgement with the waiver that covers it, if it needs one and there is one."""
    waiver = waivers.get(judgement.rule)
    if waiver is None or judgement.verdict == "met":
        return judgement
    return judgement.model_copy(update={"waiver": waiver.digest})
