"""Monitor a release in use: does it verify, does the gate approve it, is what it sees and answers like its audit?

Without labels: a run takes in what its settings name as the source, and goes on with the tests of every watched stream
(``evaluation.observation_streams``).  Their state after an observation follows from all observations before it alone,
so a run that is repeated after a crash, or catches up after a pause, counts each of them once.

With labels: the one-pass checks of the release's own policy run again on newer images, the same gate judges their
rules, and each score and loss is compared with the one in the release.  A lower score of the parent says that the
images are harder; a larger loss says that pruning hurts on them.  Labels that come later for single observations give
the accuracy and the loss with a confidence sequence, by which the rules about them are judged at every run.

Reference: the interval of a difference of two independent estimates is Zou and Donner's (``records.statistics``).
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from auditsvc.checks import check_named
from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput
from auditsvc.evaluation.observation_streams import Watcher, measured_sequence
from auditsvc.gate import decide
from auditsvc.ports import Context
from auditsvc.records import (
    OVERALL,
    Candidate,
    Change,
    Decision,
    Digest,
    DriftAlarm,
    Evidence,
    Judgement,
    Measured,
    Metric,
    Monitoring,
    Observation,
    Observed,
    Policy,
    Release,
    Rule,
    Watched,
    WatchReference,
    WatchSettings,
)
from auditsvc.records.evidence import difference, holm
from auditsvc.services.gate_query import query_gate
from auditsvc.services.measurement import measure_candidate
from auditsvc.services.observations import Locate, classes_of, store_of
from auditsvc.services.revocation import verify_offline
from auditsvc.services.watch_reference import reference_of, take_in
from auditsvc.services.watching import open_drift, watch_settings

_PART = 2000
"""Observations that are read at once."""

SILENT = datetime.timedelta(days=1)
"""A release of which nothing was observed for longer than this, and than two intervals, is not steady but unknown."""

_JUDGED = {"accuracy/score.clean": "accuracy", "accuracy/drop.clean": "loss"}
"""What labels of observations say about which reading of a policy."""


def monitor(
    ctx: Context, release: Release, person: str, data: Dataset | None = None, *, locate: Locate = Path
) -> Monitoring:
    """Count what was observed since the last run, and measure newer labelled images, if there are any.

    ``locate`` finds what the settings name.  A run that finds nothing new gives the last one again.

    Raises:
        InvalidInput: the release is not watched and there are no images; the images are those of the audit or do not
            fit the model; or the policy has no rule that a quick check answers.
    """
    candidate, decision = ctx.ledger.get(Candidate, release.candidate), ctx.ledger.get(Decision, release.decision)
    settings, policy = watch_settings(ctx.ledger, release.digest), ctx.ledger.get(Policy, decision.policy)
    if settings is None and data is None:
        raise InvalidInput(f"{release.model} {release.version} is not watched: auditsvc watch set, or give --data DIR")
    fields: dict[str, Any] = {"files": verify_offline(ctx, release).verdict}
    fields |= _labelled(ctx, candidate, decision, policy, data) if data else {}
    if settings is not None:
        fields["observed"], alarmed = _observed(ctx, settings, policy, locate)
        fields["judgements"] = (*fields.get("judgements", ()), *_judged(policy, fields["observed"], alarmed))
    fields["gate"] = query_gate(ctx.ledger, release.model, release.version).answer
    outcome, reasons = _outcome(ctx, release, fields, settings)
    made = Monitoring(
        model=release.model,
        version=release.version,
        release=release.digest,
        candidate=candidate.digest,
        outcome=outcome,
        reasons=reasons,
        person=person,
        at=ctx.clock.now(),
        **fields,
    )
    for known in _last(ctx, release.digest):
        if known.model_copy(update={"at": made.at, "person": person}) == made:  # before it was killed, or nothing new
            return known
    ctx.ledger.append(made, actor=person)
    return made


def _last(ctx: Context, release: Digest) -> tuple[Monitoring, ...]:
    """The last run, if there is one: there may be thousands."""
    return tuple(one for _, one in ctx.ledger.page(Monitoring, subject=release, limit=1))


def _labelled(ctx: Context, candidate: Candidate, decision: Decision, policy: Policy, data: Dataset) -> dict[str, Any]:
    before = tuple(ctx.ledger.get(Evidence, digest) for digest in decision.evidence)
    if data.ref.digest in {one.dataset.digest for one in before}:
        raise InvalidInput(f"the release was judged on {data.ref.name}: give newer images")
    part = one_pass_policy(policy)
    found = tuple(one for one in measure_candidate(ctx, candidate, part, data) if isinstance(one, Evidence))
    return {
        "policy": part.digest,
        "dataset": data.ref,
        "evidence": tuple(one.digest for one in found),
        "judgements": decide(part, candidate, found, at=ctx.clock.now()).judgements,
        "changes": changes_since(before, found, part.level),
    }


@dataclass
class Run:
    """The tests of one release, and up to which observation and label they have counted."""

    ctx: Context
    settings: WatchSettings
    watcher: Watcher
    reference: WatchReference
    position: int = 0
    labels: int = 0

    @classmethod
    def resumed(cls, ctx: Context, settings: WatchSettings, policy: Policy, locate: Locate) -> Run:
        """Where the last run of these settings was; new settings begin behind the last run of older ones."""
        record, reference = reference_of(ctx, settings, locate)
        candidate = ctx.ledger.get(Candidate, ctx.ledger.get(Release, settings.release).candidate)
        watcher = Watcher(
            reference,
            settings.channels,
            settings.slices,
            settings.alpha,
            settings.digest,
            60 * (settings.block_minutes or 0),
            60 * (settings.period_minutes or 0),
            frozenset((candidate.digest, *(file.digest for file in candidate.files))),
            {rule.rule: (_JUDGED[rule.reading], limit) for rule, limit in _labelled_rules(policy)},
        )
        run = cls(ctx, settings, watcher, record)
        if kept := store_of(ctx).state(settings.digest):
            run.position, run.labels = kept[:2]
            watcher.restore(kept[2])
        else:
            for last in _last(ctx, settings.release):
                run.position, run.labels = (last.observed.position, last.observed.labels) if last.observed else (0, 0)
        return run

    def advance(self) -> None:
        """Count all observations and labels that came since, and keep the state."""
        store, release = store_of(self.ctx), self.settings.release
        while rows := store.after(release, self.position, _PART):
            for self.position, body, first in rows:
                self.watcher.see(self.position, Observation.model_validate_json(body), first=first)
            store.keep_state(self.settings.digest, self.position, self.labels, self.watcher.pack())
        classes = classes_of(self.ctx, release)
        while labels := store.labels_after(release, self.labels, _PART):
            for self.labels, word, body in labels:
                seen = Observation.model_validate_json(body)
                if seen.scores:
                    self.watcher.label(seen, classes.index(word))
            store.keep_state(self.settings.digest, self.position, self.labels, self.watcher.pack())

    def observed(self) -> Observed:
        """What was counted so far."""
        watcher = self.watcher
        return Observed(
            settings=self.settings.digest,
            reference=self.reference.digest,
            position=self.position,
            labels=self.labels,
            images=watcher.images,
            left_out=watcher.left_out,
            since=watcher.span[0] if watcher.span else None,
            until=watcher.span[1] if watcher.span else None,
            streams=watcher.readings(),
            churn=measured_sequence(watcher.churn),
            accuracy=measured_sequence(watcher.right),
            loss=measured_sequence(watcher.lost, change=True),
            estimate=watcher.estimate(),
        )


def _observed(ctx: Context, settings: WatchSettings, policy: Policy, locate: Locate) -> tuple[Observed, frozenset[str]]:
    """The observations of a run, and the streams with an alarm; alarms that are new are recorded."""
    run = Run.resumed(ctx, settings, policy, locate)
    taken = take_in(ctx, settings, run.watcher.reference, locate)
    if taken.audited:
        ctx.progress.say(f"refused, as they were audited: {', '.join(taken.audited)}")
    run.advance()
    release = ctx.ledger.get(Release, settings.release)
    known = {one.stream for one in ctx.ledger.find(DriftAlarm, release.digest) if one.settings == settings.digest}
    for stream, words in run.watcher.alarms():
        if stream not in known:
            alarm = DriftAlarm(
                release=release.digest, model=release.model, version=release.version, candidate=release.candidate,
                settings=settings.digest, stream=stream, words=words, images=run.watcher.images, at=ctx.clock.now(),
            )  # fmt: skip
            ctx.ledger.append(alarm, actor="auditsvc")
    oldest = ctx.clock.now() - datetime.timedelta(days=settings.retention_days)
    store_of(ctx).delete_before(release.digest, oldest)
    return run.observed(), frozenset(stream for stream, _ in run.watcher.alarms())


def _labelled_rules(policy: Policy) -> Iterator[tuple[Rule, float]]:
    """The rules about accuracy and loss of all images, which labels of observations can judge, and their limits."""
    for rule in policy.rules:
        limit = rule.at_most if rule.at_least is None else rule.at_least
        fits = (rule.at_least is not None) == (_JUDGED.get(rule.reading) == "accuracy")
        if rule.reading in _JUDGED and fits and limit is not None and rule.of is None and rule.selects(OVERALL):
            yield rule, limit


def _judged(policy: Policy, found: Observed, alarmed: frozenset[str]) -> Iterator[Judgement]:
    """These rules by the labels that came: broken where an alarm says so, met where the whole interval is."""
    for rule, limit in _labelled_rules(policy):
        outcome: Measured | None = getattr(found, _JUDGED[rule.reading])
        if outcome is None:
            continue
        met = outcome.high <= limit if rule.at_least is None else outcome.low >= limit
        broken = f"rule {rule.rule}" in alarmed
        words = f"{outcome.value:.3f} ({outcome.low:.3f} to {outcome.high:.3f}), {outcome.images} labelled observations"
        yield Judgement(
            rule=rule.rule, metric=rule.reading, slice=OVERALL, severity=rule.severity, limit=limit, outcome=outcome,
            verdict="violated" if broken else "met" if met and outcome.images >= rule.min_images else "unknown",
            bound="at_most" if rule.at_least is None else "at_least",
            words=f"{words}, and broken lately" if broken and met else words,
        )  # fmt: skip


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
    ctx: Context, release: Release, fields: dict[str, Any], settings: WatchSettings | None
) -> tuple[Watched, tuple[str, ...]]:
    files, answer = fields["files"], fields["gate"]
    blocking = [one for one in fields.get("judgements", ()) if one.severity == "block"]
    worse = [f"the signed files are {files}"] if files != "VALID" else []
    worse += [f"the gate's answer is {answer}"] if answer != "approved" else []
    worse += [f"{one.rule}: {one.words}" for one in blocking if one.verdict == "violated"]
    worse += [_words(one) for one in fields.get("changes", ()) if one.worse]
    changed = [one.words for one in open_drift(ctx.ledger, release.digest, ctx.clock.now())]
    unknown = [f"{one.rule}: {one.words}" for one in blocking if one.verdict == "unknown"]
    if "dataset" not in fields and settings is not None and (silence := _silence(ctx, fields["observed"], settings)):
        unknown.append(silence)
    outcome: Watched = "worse" if worse else "changed" if changed else "unknown" if unknown else "steady"
    return outcome, (*worse, *changed, *unknown)


def _silence(ctx: Context, found: Observed, settings: WatchSettings) -> str:
    """Since when nothing came, in words; empty while observations come."""
    if found.until is None:
        return "nothing was observed yet"
    longest = max(SILENT, 2 * datetime.timedelta(minutes=settings.every_minutes))
    return f"nothing was observed since {found.until.isoformat()}" if ctx.clock.now() - found.until > longest else ""


def _words(one: Change) -> str:
    turn = one.difference
    return (
        f"{one.metric} on {one.slice} went from {one.then.value:.3f} to {one.now.value:.3f} "
        f"(by {turn.value:+.3f}, {turn.low:+.3f} to {turn.high:+.3f})"
    )
