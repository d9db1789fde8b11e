"""The gate: policy and evidence in, decision out.  A pure function: no clock, no file, no registry.

A rule is ``met`` only if the *pessimistic* end of the interval keeps its limit, so doubt counts against the
candidate.  It is ``violated`` if the other end breaks it too, or, for a loss against the parent, if the estimate
is over the limit and the loss itself is shown: its p-value holds under Holm's correction over the rule's
family.  Everything else, and everything that was not measured, is too old, contradicts itself or belongs to
another candidate, is ``unknown``.

Approval needs every blocking rule: an intersection-union test, so that the chance of approving a candidate
that breaks any one of them is at most alpha, without correction for their number.

Reference: R. L. Berger (1982), "Multiparameter Hypothesis Testing and Acceptance Sampling",
doi:10.1080/00401706.1982.10487790.

Which waivers count for a decision, and why the others do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from auditsvc.records import (
    OVERALL,
    Candidate,
    Decision,
    Digest,
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
    matches,
)
from auditsvc.records.eligibility import Incumbent, eligible_evidence
from auditsvc.records.holdout import HoldoutUses, holdout_exhausted, holdout_note
from auditsvc.records.messages import finding_message, images_to_decide
from auditsvc.records.statistics import difference, holm


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


NO_LOOKS: HoldoutUses = {}
Readings = Mapping[tuple[str, str], Measured | Unmeasured]


def decide(
    policy: Policy,
    candidate: Candidate,
    evidence: Iterable[Evidence],
    *,
    waivers: Iterable[Waiver] = (),
    incumbent: Incumbent | None = None,
    looks: HoldoutUses = NO_LOOKS,
    at: Moment,
) -> Decision:
    """Judge one candidate by every rule of the policy.  The order of evidence and waivers changes nothing.

    Evidence that does not count (``records.standing``) is left out, and the rules that needed it say why.  Rules that
    compare with the ``incumbent`` are not judged while nothing is released.
    """
    standing = eligible_evidence(policy, candidate, evidence, at)
    if worn := holdout_exhausted(policy, candidate.digest, looks):
        standing = dict.fromkeys(standing, worn)
    places = [place for rule in policy.rules if rule.of is None for place in _places(rule, standing)]
    compared = [rule for rule in policy.rules if rule.of]
    if compared and incumbent:
        images = {item.key.dataset for item in standing.values() if isinstance(item, Evidence)}
        same = [item for item in incumbent.evidence if item.key.dataset in images]
        known = eligible_evidence(policy, incumbent.candidate, same, at)
        places += [_against(place, known) for rule in compared for place in _places(rule, standing)]
    in_force, notes = sort_waivers(policy, candidate, waivers, at)
    judged = zip(places, holm((place.family, place.p) for place in places), strict=True)
    judgements = tuple(apply_waiver(_judgement(place, p, policy.level), in_force) for place, p in judged)
    open_rules = {judgement.rule for judgement in judgements if judgement.verdict != "met"}
    notes += [] if incumbent else [f"{rule.rule} was not judged: nothing is released yet" for rule in compared]
    notes += holdout_note(policy, candidate.digest, looks)
    notes += [f"the waiver of {rule} is not needed: the rule is met" for rule in sorted(set(in_force) - open_rules)]
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
        at=at,
    )


@dataclass(frozen=True)
class _Place:
    """One metric on one slice under one rule."""

    rule: Rule
    metric: str
    slice: str
    outcome: Measured | Unmeasured
    severity: Severity
    evidence: Digest | None
    too_small: bool = False
    against: Digest | None = None

    @property
    def family(self) -> str:
        """The name of the family that this loss is tested in."""
        return self.rule.family or self.rule.rule

    @property
    def p(self) -> float | None:
        """The p-value of no loss, where this is a loss against the parent."""
        is_loss = isinstance(self.outcome, Measured) and self.metric.startswith("drop.") and self.rule.of is None
        return self.outcome.p if isinstance(self.outcome, Measured) and is_loss else None


def _places(rule: Rule, standing: Mapping[str, Evidence | str]) -> list[_Place]:
    """Where the rule is judged: one place for each metric and slice that it names; at least one, always."""
    found = standing.get(rule.check, f"the policy does not run {rule.check}")
    if isinstance(found, str):
        return [_nowhere(rule, found, None)]
    readings = _readings(found)
    metrics = sorted({metric for metric, _ in readings if matches(rule.metric, metric)})
    if not metrics:
        return [_nowhere(rule, f"{rule.check} gave no reading named {rule.metric}", found.digest)]
    sizes = _slice_sizes(standing, found)
    places = [
        _place(rule, metric, name, readings.get((metric, name)), sizes.get(name, 0), found)
        for metric in metrics
        for name in rule.chosen(sizes)
    ]
    if all(place.too_small for place in places):
        return [replace(place, severity=rule.severity) for place in places]
    return places


def _nowhere(rule: Rule, reason: str, evidence: Digest | None) -> _Place:
    return _Place(rule, rule.metric, ", ".join(rule.selectors), Unmeasured(reason=reason), rule.severity, evidence)


def _readings(evidence: Evidence) -> Readings:
    """Every reading by metric and slice; one that is given twice is no reading."""
    found: dict[tuple[str, str], Measured | Unmeasured] = {}
    for item in evidence.readings:
        place = (item.metric, item.slice)
        found[place] = (
            item.outcome if place not in found else Unmeasured(reason="the evidence gives this reading more than once")
        )
    return found


def _slice_sizes(standing: Mapping[str, Evidence | str], evidence: Evidence) -> dict[str, int]:
    """Every slice that any evidence of this data set knows, with the most images that were tried of it.

    A check that leaves a slice out can't hide it: the others have told of it.
    """
    sizes: dict[str, int] = {}
    for other in standing.values():
        if isinstance(other, Evidence) and other.key.dataset == evidence.key.dataset:
            for item in other.readings:
                sizes[item.slice] = max(sizes.get(item.slice, 0), item.outcome.images)
    return sizes


def _place(
    rule: Rule, metric: str, name: str, outcome: Measured | Unmeasured | None, size: int, found: Evidence
) -> _Place:
    """The reading at one place; what follows where the slice is too small (no excuse if that is only for now)."""
    evidence, whole = found.digest, found.whole or {}
    if outcome is None or (size == 0 and name != OVERALL):
        reason = "the slice is empty" if outcome else f"the check {rule.check} gave no {metric} for {name}"
        return _Place(rule, metric, name, Unmeasured(reason=reason), rule.severity, evidence)
    if outcome.images >= rule.min_images or _is_broken(rule, outcome):
        return _Place(rule, metric, name, outcome, rule.severity, evidence)
    seen = f"{outcome.images} images; the rule judges slices of at least {rule.min_images}"
    if isinstance(outcome, Unmeasured):
        seen = f"{outcome.reason}; the rule judges slices of at least {rule.min_images} images"
    unknown = Unmeasured(reason=seen, images=outcome.images)
    if name == OVERALL:
        return _Place(rule, metric, name, unknown, rule.severity, evidence)
    excused = rule.below_minimum == "warn" and whole.get(name, 0) < rule.min_images
    severity: Severity = "warn" if excused else rule.severity
    return _Place(rule, metric, name, unknown, severity, evidence, too_small=True)


def _is_broken(rule: Rule, outcome: Measured | Unmeasured) -> bool:
    """Whether even the candidate's best case breaks the limit."""
    if isinstance(outcome, Unmeasured):
        return False
    return outcome.high < rule.limit if rule.at_least is not None else outcome.low > rule.limit


def _against(place: _Place, known: Mapping[str, Evidence | str]) -> _Place:
    """The place with its outcome less the incumbent's on the same images, or why there is none."""
    standing = known.get(place.rule.check, f"no evidence of {place.rule.check}")
    if isinstance(place.outcome, Unmeasured):
        return place
    if isinstance(standing, str):
        return replace(place, outcome=Unmeasured(reason=f"of the incumbent: {standing}; audit it again"))
    other = standing.reading(place.metric, place.slice)
    if isinstance(other, Unmeasured):
        return replace(place, outcome=Unmeasured(reason=f"of the incumbent: {other.reason}"))
    return replace(place, outcome=difference(place.outcome, other), against=standing.digest)


def _judgement(place: _Place, adjusted: float | None, alpha: float) -> Judgement:
    rule, outcome = place.rule, place.outcome
    verdict, needed = _verdict(place, adjusted, alpha), None
    if verdict == "unknown" and isinstance(outcome, Measured):
        needed = images_to_decide(rule, place.metric, outcome, alpha)
    return Judgement(
        rule=rule.rule,
        metric=f"{rule.check}/{place.metric}",
        slice=place.slice,
        verdict=verdict,
        severity=place.severity,
        bound="at_least" if rule.at_least is not None else "at_most",
        limit=rule.limit,
        outcome=outcome,
        evidence=place.evidence,
        adjusted_p=adjusted,
        against=place.against,
        words=finding_message(rule, place.metric, place.slice, outcome, needed),
    )


def _verdict(place: _Place, adjusted: float | None, alpha: float) -> Verdict:
    rule, outcome = place.rule, place.outcome
    if isinstance(outcome, Unmeasured):
        return "unknown"
    if _is_broken(rule, outcome):
        return "violated"
    if rule.at_least is not None:
        return "met" if outcome.low >= rule.limit else "unknown"
    if outcome.high <= rule.limit:
        return "met"
    shown = outcome.low > 0 if adjusted is None else adjusted <= alpha
    is_loss = place.metric.startswith("drop.") and rule.of is None
    return "violated" if is_loss and shown and outcome.value > rule.limit else "unknown"


def _outcome(judgements: Sequence[Judgement]) -> Outcome:
    open_ones = {item.verdict for item in judgements if item.severity == "block" and item.waiver is None}
    if "violated" in open_ones:
        return "rejected"
    return "inconclusive" if "unknown" in open_ones else "approved"
