"""The audit of one candidate: measure it next to its parent by every check of a policy, explore, judge, report.

``audit_candidate`` is the one place that puts the steps in order; the command line, jobs, sweeps and the demo call it.
``services.measurement`` measures.

Explore what no rule names: slices with larger losses, and images that all seeds of a recipe change alike.

Slice discovery suggests slices for the next version of a policy.  Exemplars are Pruning-Identified Exemplars of one
recipe pruned with several seeds.  Neither is judged.

Reference: S. Hooker et al. (2019), "What Do Compressed Deep Neural Networks Forget?", arXiv:1911.05248.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from auditsvc.datasets import Dataset
from auditsvc.datasets.image_properties import PROPERTIES
from auditsvc.datasets.prediction_table import PredictedDataset
from auditsvc.datasets.scaling import scaled_for
from auditsvc.errors import InvalidInput
from auditsvc.evaluation import CLEAN, EvalContext, Pair, code_version
from auditsvc.evaluation.slice_discovery import Group, disagreement, discovered_slices, halves, modal
from auditsvc.models import Model
from auditsvc.ports import Context, Ledger, Result, Runner
from auditsvc.records import (
    Candidate,
    CheckFailed,
    Decision,
    Digest,
    Evidence,
    Measured,
    Parent,
    Policy,
    Shard,
    Slicing,
    Submission,
    Unmeasured,
)
from auditsvc.records.evidence import DiscoveredSlice, DiscoveredSlices, Exemplar, Exemplars
from auditsvc.records.terms import WATERMARK_CHECK
from auditsvc.services.answer_cache import answer_cache
from auditsvc.services.decisions import decide_now, judge
from auditsvc.services.holdout import images_not_recorded, record_holdout_use
from auditsvc.services.measurement import (
    Sharding,
    guarded,
    is_measured,
    measured,
    measured_again,
    merged_shards,
    plan_shards,
    prepared,
)
from auditsvc.services.model_store import load_stored
from auditsvc.services.parent_check import check_inputs
from auditsvc.services.policies import slice_dataset
from auditsvc.services.power import sliced_by
from auditsvc.services.reporting import write_report
from auditsvc.services.terms import binding_terms, unproven_files
from auditsvc.tasks import Task, task_named

EVERYTHING = Slicing(image=dict.fromkeys(sorted(PROPERTIES), 4), classes=True)
"""Columns that are searched in addition to the data set's own: the classes, and quartiles of every image property."""


def discover_slices(ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset) -> DiscoveredSlices:
    """Slices that seem to lose more than the rest on clean images, found on one half and tested on the other.

    A search that is in the ledger is not repeated, and after an audit no model runs.
    """
    for known in ctx.ledger.find(DiscoveredSlices, candidate.digest):
        pins = (known.dataset, known.seed, known.alpha, known.code)
        if pins == (dataset.ref.digest, policy.seed, policy.level, code_version()):
            return known
    classes = True if dataset.ref.task == "classification" else None
    pixels = {} if isinstance(dataset, PredictedDataset) else EVERYTHING.image
    every = sliced_by(EVERYTHING.model_copy(update={"classes": classes, "image": pixels}), dataset)
    parent = _load(ctx, ctx.ledger.get(Parent, candidate.parent))
    pair = _clean_pair(ctx, candidate, parent, policy, every)
    change = pair.change
    groups, tried = discovered_slices(change, every.slices, policy.seed, policy.level, step=pair.step)
    search, judge = halves(every.slices.images, every.slices.clusters, policy.seed)
    found = DiscoveredSlices(
        candidate=candidate.digest,
        parent=candidate.parent,
        dataset=dataset.ref.digest,
        seed=policy.seed,
        alpha=policy.level,
        tried=tried,
        images_found=len(search),
        images_held=len(judge),
        groups=tuple(_record(group) for group in groups),
        code=code_version(),
        at=ctx.clock.now(),
    )
    ctx.ledger.append(found, actor="auditsvc")
    return found


def _load(ctx: Context, item: Parent | Candidate) -> Model:
    return load_stored(ctx, item.files).on(ctx.device)


def _clean_pair(ctx: Context, candidate: Candidate, parent: Model, policy: Policy, dataset: Dataset) -> Pair:
    """Both models' predictions on the untouched images, from the cache where they are in it."""
    dataset = scaled_for(dataset, parent.card)
    context = EvalContext(
        candidate=_load(ctx, candidate),
        candidate_digest=candidate.digest,
        parent=parent,
        parent_digest=candidate.parent,
        task=task_named(candidate.task, dataset.classes),
        dataset=dataset,
        seed=policy.seed,
        alpha=policy.level,
        cache=answer_cache(ctx),
        device=ctx.device,
    )
    return context.pair(CLEAN)


def _record(group: Group) -> DiscoveredSlice:
    plain = {"lost": None, "won": None, "p": None}
    return DiscoveredSlice(
        expression=group.expression,
        found=group.found.model_copy(update=plain),
        held=group.held,
        adjusted=group.adjusted,
    )


SHOWN = 50
"""Images that are stored by name; all are counted."""


def seeds_of(candidate: Candidate, ledger: Ledger) -> tuple[Candidate, ...]:
    """This candidate and every other one of its parent whose recipe differs in the seed alone, in order of the seed."""
    if candidate.recipe is None:
        return (candidate,)
    plain = candidate.recipe.model_copy(update={"seed": 0})
    alike = [
        other
        for other in ledger.find(Candidate, candidate.parent)
        if other.recipe and other.recipe.model_copy(update={"seed": 0}) == plain
    ]
    by_seed = {other.recipe.seed: other for other in alike if other.recipe} | {candidate.recipe.seed: candidate}
    return tuple(by_seed[seed] for seed in sorted(by_seed))


def find_exemplars(ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset) -> Exemplars | None:
    """Images that all seeds of this candidate's recipe change alike, on clean images; None if there is one seed.

    A search that is in the ledger is not repeated.  It costs one pass per candidate that was not audited.
    """
    seeds = seeds_of(candidate, ctx.ledger)
    if len(seeds) < 2:
        return None
    digests = tuple(one.digest for one in seeds)
    for known in ctx.ledger.find(Exemplars, candidate.digest):
        if (known.candidates, known.dataset, known.code) == (digests, dataset.ref.digest, code_version()):
            return known
    parent = _load(ctx, ctx.ledger.get(Parent, candidate.parent))
    pairs = [_clean_pair(ctx, one, parent, policy, dataset) for one in seeds]
    found = _found(pairs, task_named(candidate.task, dataset.classes), dataset)
    record = Exemplars(
        parent=candidate.parent, dataset=dataset.ref.digest, candidates=digests, images=dataset.ref.images,
        code=code_version(), at=ctx.clock.now(), **found,
    )  # fmt: skip
    ctx.ledger.append(record, actor="auditsvc")
    return record


def _found(pairs: Sequence[Pair], task: Task, dataset: Dataset) -> dict[str, object]:
    answers = np.stack([pair.candidate["answer"].astype(np.int64) for pair in pairs])
    parent = pairs[0].parent
    dense = parent["answer"].astype(np.int64)
    most, agreed = modal(answers, dense)
    speaker = (answers == most).argmax(axis=0)
    changed = np.flatnonzero(most != dense)
    order = changed[np.argsort(-agreed[changed], kind="stable")]
    return {
        "changed": len(changed),
        "parent_right": int((parent["score"][changed] == 1).sum()),
        "candidates_right": sum(int(pairs[speaker[place]].candidate["score"][place] == 1) for place in changed),
        "churn": float((answers != dense).mean()),
        "noise": disagreement(answers),
        "shown": tuple(
            Exemplar(
                image=dataset.name_of(int(place)),
                target=task.describe_target(dataset.target_of(int(place))),
                parent=task.describe_answer(parent[place]),
                candidates=task.describe_answer(pairs[speaker[place]].candidate[place]),
                agreed=int(agreed[place]),
                slices=dataset.slices.of(int(place)),
            )
            for place in order[:SHOWN]
        ),
    }


@dataclass(frozen=True)
class AuditResult:
    """What one audit gave.  A report is written for submitted candidates only, as it is filed by their version."""

    evidence: tuple[Evidence, ...]
    failures: tuple[CheckFailed, ...]
    discovered: DiscoveredSlices | None
    """Slices that seem to lose more than the rest; None if the search crashed."""
    exemplars: Exemplars | None
    """Images that several seeds of one recipe change alike; None while there is only one seed."""
    decision: Decision
    reports: tuple[Path, ...]
    obstacles: tuple[str, ...]
    """What was known before measuring to prevent a release."""


class InlineRunner:
    """``ports.Runner`` in this process, without shards; what is finished is found again in the ledger."""

    def step(self, name: str, work: Callable[[], Result]) -> Result:  # noqa: ARG002 - a name is for stored results
        """The result of this step."""
        return work()

    def spread(self, shards: Sequence[Shard]) -> tuple[Result, ...]:
        """Nothing to run: only audits that are given a ``Sharding`` have shards.

        Raises:
            InvalidInput: there are shards.
        """
        if shards:
            raise InvalidInput("shards need a runner of a job")
        return ()


def audit_candidate(
    ctx: Context,
    candidate: Candidate,
    policy: Policy,
    dataset: Dataset,
    *,
    formats: tuple[str, ...] = ("html",),
    runner: Runner | None = None,
    sharding: Sharding | None = None,
    expected_accuracy: float | None = None,
) -> AuditResult:
    """Measure a candidate, discover slices and exemplars, judge, move or clear the alias, and write the report.

    Run again after a kill, it finds what it did before and does the rest; a job's ``runner`` also keeps the result of
    each step.  ``formats`` are those of the report, none for no report.  With ``sharding`` the measuring is divided
    among the workers of the runner.  ``expected_accuracy`` (0..1) is the parent's, as its owner states it.

    Raises:
        InvalidInput: the parent does not see the images as it was trained to (``services.parent_check``).
        InvalidInput: a policy with rules about slices that neither the data set nor the policy's own ``slicing`` has,
            or a data set of another task or other classes than the model's, or with images that made it.
        Unavailable: a disk, the registry or the keys failed; run it again.
    """
    runner, audit = runner or InlineRunner(), _Audit(ctx, candidate, policy, dataset)
    planned = runner.step("plan", partial(audit.plan, sharding, expected_accuracy))
    shards = tuple(Shard.model_validate(one) for one in planned["shards"])
    results = runner.spread(shards)
    measured = runner.step("measure", partial(audit.measure, shards, results))
    explored = runner.step("explore", audit.explore)
    judged = runner.step("judge", partial(audit.judge, measured["evidence"]))
    written = runner.step("report", partial(audit.report, judged["decision"], formats))
    get, slices, exemplars = ctx.ledger.get, explored["slices"], explored["exemplars"]
    return AuditResult(
        evidence=tuple(get(Evidence, digest) for digest in measured["evidence"]),
        failures=tuple(get(CheckFailed, digest) for digest in measured["failed"]),
        discovered=get(DiscoveredSlices, slices) if slices else None,
        exemplars=get(Exemplars, exemplars) if exemplars else None,
        decision=get(Decision, judged["decision"]),
        reports=tuple(ctx.folder / name for name in written["reports"]),
        obstacles=tuple(planned.get("obstacles", ())),
    )


@dataclass(frozen=True)
class Repetition:
    """What an audit gave when it was measured again; ``differing`` has each reading that is not the same."""

    readings: dict[str, int]
    """How many readings each check gave."""
    differing: tuple[tuple[str, str, str, str], ...]
    """Metric, slice, what the ledger has, and what was found."""
    outcome: str
    again: str
    verdicts: int
    """Rule evaluations with another verdict."""

    @property
    def same(self) -> bool:
        """Whether the same is decided for the same reasons."""
        return self.outcome == self.again and not self.verdicts


def audit_again(ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset) -> Repetition:
    """Measure what was audited again, without any answer that was kept, and compare; nothing is recorded.

    Raises:
        InvalidInput: as ``measured_again`` and ``audit_candidate`` say.
    """
    pairs = measured_again(ctx, candidate, policy, _Audit(ctx, candidate, policy, dataset).sliced)
    differing, readings = [], {}
    for before, now in pairs:
        readings[before.key.check] = len(before.readings)
        found = {(one.metric, one.slice): one.outcome for one in now.readings} if isinstance(now, Evidence) else {}
        for one in before.readings:
            if (other := found.get((one.metric, one.slice))) != one.outcome:
                crashed = now.error if isinstance(now, CheckFailed) else "nothing"
                place = f"{before.key.check}/{one.metric}", one.slice
                differing.append((*place, _shown(one.outcome), _shown(other) if other else crashed))
    decisions = [
        decide_now(ctx, candidate, policy, [one for one in side if isinstance(one, Evidence)])
        for side in zip(*pairs, strict=True)
    ]
    verdicts = [{(one.rule, one.metric, one.slice): one.verdict for one in each.judgements} for each in decisions]
    changed = sum(verdicts[1].get(place) != verdict for place, verdict in verdicts[0].items())
    return Repetition(readings, tuple(differing), decisions[0].outcome, decisions[1].outcome, changed)


def _shown(outcome: Measured | Unmeasured) -> str:
    if isinstance(outcome, Unmeasured):
        return f"not measured: {outcome.reason}"
    return f"{outcome.value:.6g} ({outcome.low:.6g} to {outcome.high:.6g})"


def obstacles(ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset) -> tuple[str, ...]:
    """What is known before measuring to prevent a release: suspected clusters, a missing watermark, files that can't
    be released, a trial."""
    terms = binding_terms(ctx.ledger, candidate.model)
    found = [f"the images are probably not independent: {one}" for one in dataset.ref.suspected or ()]
    rules = [terms.adapted(rule, candidate) if terms else rule for rule in policy.rules]
    needed = [rule.rule for rule in rules if rule.check == WATERMARK_CHECK and rule.severity == "block"]
    if candidate.mark is None and needed:
        found.append(
            f"this candidate has no watermark, so {' and '.join(needed)} can't be met: mark it when it is admitted "
            "(`auditsvc audit --mark`), or set terms that do not require it (`auditsvc terms set --unmarked`)"
        )
    if candidate.unproven:
        found.append(unproven_files(candidate.unproven))
    trial = terms.objections(candidate, policy.digest, (dataset.ref.digest,)) if terms else ()
    if trial:
        found.append(f"this audit is a trial, as it does not fit the terms of {candidate.model}: {'; '.join(trial)}")
    return tuple(found)


@dataclass(frozen=True)
class _Audit:
    """The steps of one audit.  Their results are plain JSON, digests and names, so that a job can keep them."""

    ctx: Context
    candidate: Candidate
    policy: Policy
    dataset: Dataset

    @cached_property
    def counted(self) -> Dataset:
        """The data set with equal images counted once; refused if it made the candidate or its parent."""
        return prepared(self.ctx, self.candidate, self.dataset)

    @cached_property
    def sliced(self) -> Dataset:
        """The data set with the policy's slices; refused if a rule names one that is not there."""
        return slice_dataset(self.policy, self.counted)

    def plan(self, sharding: Sharding | None, expected: float | None) -> Result:
        """Check that the policy fits the data set, and the models its images; record their use; the shards, if any."""
        sliced = self.sliced
        if expected is not None or not is_measured(self.ctx, self.candidate, self.policy, sliced):
            with self.ctx.progress.step("check the parent on some images"):
                check_inputs(self.ctx, self.candidate, sliced, self.policy.seed, expected)
        self.ctx.ledger.append(self.policy, actor="auditsvc")
        for note in self.dataset.ref.notes or ():
            self.ctx.progress.say(f"data: {note}")
        for note in images_not_recorded(self.ctx.ledger, self.candidate):
            self.ctx.progress.say(note)
        blocking = obstacles(self.ctx, self.candidate, self.policy, self.counted)
        for line in blocking:
            self.ctx.progress.say(line)
        record_holdout_use(self.ctx, self.candidate, self.dataset.ref.digest)
        shards = plan_shards(self.ctx, self.candidate, self.policy, sliced, sharding) if sharding else ()
        return {"shards": [shard.model_dump(mode="json") for shard in shards], "obstacles": list(blocking)}

    def measure(self, shards: Sequence[Shard], results: Sequence[Result]) -> Result:
        """The evidence of every check, and the checks that failed."""
        partial_results = merged_shards(self.ctx, shards, results)
        found = measured(self.ctx, self.candidate, self.policy, self.sliced, partial_results)
        return {
            "evidence": [item.digest for item in found if isinstance(item, Evidence)],
            "failed": [item.digest for item in found if isinstance(item, CheckFailed)],
        }

    def explore(self) -> Result:
        """Discovered slices and exemplars; a crash here never blocks the decision."""
        args = (self.ctx, self.candidate, self.policy, self.counted)
        return {
            "slices": self._explored("slice discovery", partial(discover_slices, *args)),
            "exemplars": self._explored("exemplars", partial(find_exemplars, *args)),
        }

    def _explored(self, title: str, search: Callable[[], DiscoveredSlices | Exemplars | None]) -> Digest | None:
        found = guarded(search)
        if isinstance(found, str):
            self.ctx.progress.say(f"{title} failed and is left out: {found}")
            return None
        return found.digest if found else None

    def judge(self, evidence: Sequence[Digest]) -> Result:
        """The decision; it also sets the tags, and clears the alias or attests the rejection where it must."""
        found = [self.ctx.ledger.get(Evidence, digest) for digest in evidence]
        with self.ctx.progress.step("judge"):
            decision = judge(self.ctx, self.candidate, self.policy, found)
        return {"decision": decision.digest, "outcome": decision.outcome}

    def report(self, decision: Digest, formats: tuple[str, ...]) -> Result:
        """The report's files, relative to the store."""
        if not formats or not self.ctx.ledger.find(Submission, self.candidate.digest):
            return {"reports": []}
        found = self.ctx.ledger.get(Decision, decision)
        with self.ctx.progress.step("report"):
            paths = write_report(self.ctx, self.candidate, found, self.dataset, formats=formats)
        return {"reports": [path.relative_to(self.ctx.folder).as_posix() for path in paths]}
