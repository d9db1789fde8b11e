"""Monitor a release in use: does it still verify, does the gate still approve it, does it hold on newer images?

The one-pass checks of the release's own policy run again on images from production, and the same gate judges their
rules.  Each score and each loss is compared with the one in the release.  A lower score of the parent says that the
images are harder; a larger loss says that pruning hurts on them.

References: the interval of a difference of two independent estimates is Zou and Donner's (``records.statistics``); the
two-sample test of the images is Gretton's MMD (``evaluation.metrics.mmd``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from statistics import NormalDist

import torch

from auditsvc.checks import check_named
from auditsvc.datasets import Dataset
from auditsvc.datasets.scaling import scaled_for
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.metrics.mmd import image_features, mean_discrepancy
from auditsvc.gate import decide
from auditsvc.ports import Context
from auditsvc.records import (
    Candidate,
    Change,
    Decision,
    Distance,
    Evidence,
    Judgement,
    Measured,
    Metric,
    Monitoring,
    Parent,
    Policy,
    Release,
    Unmeasured,
    Watched,
)
from auditsvc.records.evidence import difference, holm
from auditsvc.services.gate_query import query_gate
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.model_store import load_stored
from auditsvc.services.revocation import verify_offline

LEAST = 20
"""Images that each side needs for a distance."""

_BATCH = 64

_Then = dict[tuple[str, str], Measured]


def monitor(
    ctx: Context, release: Release, dataset: Dataset, person: str, *, baseline: Dataset | None = None
) -> Monitoring:
    """Monitor a release on images that are newer than its audit.

    ``baseline``: the data set of the audit, if available; then the distance of the images is measured too.

    Raises:
        InvalidInput: the images are those of the audit, ``baseline`` is not, the data set does not fit the model, or
            the policy has no rule that a quick check answers.
    """
    candidate, decision = ctx.ledger.get(Candidate, release.candidate), ctx.ledger.get(Decision, release.decision)
    before = tuple(ctx.ledger.get(Evidence, digest) for digest in decision.evidence)
    used = {one.dataset.digest for one in before}
    if dataset.ref.digest in used:
        raise InvalidInput(f"the release was judged on {dataset.ref.name}: give newer images")
    if baseline is not None and baseline.ref.digest not in used:
        raise InvalidInput(f"the release was not judged on {baseline.ref.name}: give the data set of its audit")
    policy = one_pass_policy(ctx.ledger.get(Policy, decision.policy))
    seen = verify_offline(ctx, release)
    found = tuple(one for one in measure_candidate(ctx, candidate, policy, dataset) if isinstance(one, Evidence))
    judged = decide(policy, candidate, found, at=ctx.clock.now()).judgements
    changes = changes_since(before, found, policy.level)
    answer = query_gate(ctx.ledger, release.model, release.version).answer
    outcome, reasons = _outcome(seen.verdict, answer, judged, changes)
    made = Monitoring(
        model=release.model,
        version=release.version,
        release=release.digest,
        candidate=candidate.digest,
        policy=policy.digest,
        dataset=dataset.ref,
        evidence=tuple(one.digest for one in found),
        files=seen.verdict,
        gate=answer,
        judgements=judged,
        changes=changes,
        distance=_distance(ctx, candidate, baseline, dataset, policy) if baseline else None,
        outcome=outcome,
        reasons=reasons,
        person=person,
        at=ctx.clock.now(),
    )
    for known in ctx.ledger.find(Monitoring, release.digest):
        if known.model_copy(update={"at": made.at}) == made:  # the same run, before it was killed
            return known
    ctx.ledger.append(made, actor=person)
    return made


def one_pass_policy(policy: Policy) -> Policy:
    """The checks of a policy that take one pass over the images, and the rules about them, as a policy of its own.

    Raises:
        InvalidInput: there is none, or none of its rules blocks.
    """
    made = {name: check_named(name, spec) for name, spec in policy.checks.items()}
    quick = {name for name, check in made.items() if check.conditions() and check.cost() <= 1}
    rules = tuple(rule for rule in policy.rules if rule.reading.partition("/")[0] in quick and rule.of is None)
    if not any(rule.severity == "block" for rule in rules):
        raise InvalidInput(f"no blocking rule of {policy.policy} uses a check of one pass; audit the candidate again")
    fields = policy.model_dump() | {
        "policy": f"{policy.policy}-monitored",
        "why": f"what of {policy.policy} {policy.version} is asked again while a release is in use",
        "checks": {name: policy.checks[name] for name in policy.checks if name in quick},
        "rules": rules,
        "datasets": (),
        "stages": None,
        "max_evaluations": None,
        "spend_alpha": None,
    }
    return Policy.model_validate(fields)


def changes_since(before: Iterable[Evidence], now: Iterable[Evidence], alpha: float) -> tuple[Change, ...]:
    """Every score and loss that was measured then and now, the parent's too, in the order of the newer evidence."""
    then = {place: outcome for one in before for place, outcome in _measured(one)}
    pairs = [(place, then[place], outcome) for one in now for place, outcome in _measured(one) if place in then]
    moved = [(place, old, new, difference(new, old)) for place, old, new in pairs]
    declared = {f"{one.key.check}/{item.metric}": one.metric(item.metric) for one in now for item in one.readings}
    tests = [_p_value(declared[place[0]], turn, alpha) for place, _, _, turn in moved]
    adjusted = holm(("changes", p) for p in tests)
    return tuple(
        Change(
            metric=place[0],
            slice=place[1],
            then=old,
            now=new,
            difference=turn,
            adjusted_p=1.0 if p is None else p,
            worse=p is not None and p <= alpha,
        )
        for (place, old, new, turn), p in zip(moved, adjusted, strict=True)
    )


def _measured(evidence: Evidence) -> Iterator[tuple[tuple[str, str], Measured]]:
    for reading in evidence.readings:
        metric = evidence.metric(reading.metric)
        compared = metric.role == "loss" or (metric.role is not None and metric.condition is not None)
        if compared and isinstance(reading.outcome, Measured):
            yield (f"{evidence.key.check}/{reading.metric}", reading.slice), reading.outcome


def _p_value(metric: Metric, turn: Measured, alpha: float) -> float | None:
    """The one-sided p-value of a change for the worse, from the bad end of its interval; None for the parent's own."""
    if metric.role == "parent":
        return None
    bad = turn.value if metric.better == "lower" else -turn.value
    reach = turn.value - turn.low if metric.better == "lower" else turn.high - turn.value
    if reach <= 0:
        return 0.0 if bad > 0 else 1.0
    return NormalDist().cdf(-bad / reach * NormalDist().inv_cdf(1 - alpha))


def _outcome(
    files: str, answer: str, judged: tuple[Judgement, ...], changes: tuple[Change, ...]
) -> tuple[Watched, tuple[str, ...]]:
    blocking = [one for one in judged if one.severity == "block"]
    worse = [f"the signed files are {files}"] if files != "VALID" else []
    worse += [f"the gate's answer is {answer}"] if answer != "approved" else []
    worse += [f"{one.rule}: {one.words}" for one in blocking if one.verdict == "violated"]
    worse += [_words(one) for one in changes if one.worse]
    unknown = [f"{one.rule}: {one.words}" for one in blocking if one.verdict == "unknown"]
    return ("worse" if worse else "unknown" if unknown else "steady"), (*worse, *unknown)


def _words(one: Change) -> str:
    turn = one.difference
    return (
        f"{one.metric} on {one.slice} went from {one.then.value:.3f} to {one.now.value:.3f} "
        f"(by {turn.value:+.3f}, {turn.low:+.3f} to {turn.high:+.3f})"
    )


def _distance(ctx: Context, candidate: Candidate, then: Dataset, now: Dataset, policy: Policy) -> Distance:
    counts = then.ref.images, now.ref.images
    if min(counts) < LEAST:
        reason = f"a distance needs {LEAST} images on each side; there are {counts[0]} and {counts[1]}"
        return Distance(baseline=then.ref.digest, outcome=Unmeasured(reason=reason, images=sum(counts)))
    parent = load_stored(ctx, ctx.ledger.get(Parent, candidate.parent).files).on(ctx.device)
    with torch.inference_mode():
        one, other = (
            torch.cat([image_features(parent(batch.images.to(ctx.device))).cpu() for batch in each.batches(_BATCH)])
            for each in (scaled_for(then, parent.card), scaled_for(now, parent.card))
        )
    found = mean_discrepancy(one, other, policy.level, policy.seed)
    outcome = Measured(value=found.value, low=found.low, high=found.high, images=found.images)
    return Distance(baseline=then.ref.digest, outcome=outcome, p=found.chance)
