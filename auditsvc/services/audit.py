"""The audit of one candidate: measure it next to its parent by every check of a policy, explore, judge, report.

``audit_candidate`` is the one place that puts the steps in order; the command line, jobs, sweeps and the demo call it.
``services.measurement`` measures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput
from auditsvc.ports import Context, Result, Runner
from auditsvc.records import (
    Candidate,
    CheckFailed,
    Decision,
    Digest,
    Evidence,
    Policy,
    Shard,
    Submission,
)
from auditsvc.records.evidence import DiscoveredSlices, Exemplars
from auditsvc.records.terms import WATERMARK_CHECK
from auditsvc.services.decisions import judge
from auditsvc.services.exploration import discover_slices, find_exemplars
from auditsvc.services.holdout import record_holdout_use
from auditsvc.services.measurement import (
    Cache,
    Sharding,
    guarded,
    is_measured,
    measured,
    merged_shards,
    plan_shards,
    prepared,
)
from auditsvc.services.parent_check import check_inputs
from auditsvc.services.policies import slice_dataset
from auditsvc.services.reporting import write_report
from auditsvc.services.terms import binding_terms


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
    cache: Cache | None = None,
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
    runner, audit = runner or InlineRunner(), _Audit(ctx, candidate, policy, dataset, {} if cache is None else cache)
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
    )


def obstacles(ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset) -> tuple[str, ...]:
    """What is known before measuring to stand against a release: suspected clusters, a missing watermark, a trial."""
    terms = binding_terms(ctx.ledger, candidate.model)
    found = [f"the images are probably not independent: {one}" for one in dataset.ref.suspected or ()]
    rules = [terms.adapted(rule, candidate) if terms else rule for rule in policy.rules]
    needed = [rule.rule for rule in rules if rule.check == WATERMARK_CHECK and rule.severity == "block"]
    if candidate.mark is None and needed:
        found.append(
            f"this candidate has no watermark, so {' and '.join(needed)} can't be met: mark it when it is admitted "
            "(`auditsvc audit --mark`), or set terms that do not require it (`auditsvc terms set --unmarked`)"
        )
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
    cache: Cache

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
        for line in obstacles(self.ctx, self.candidate, self.policy, self.counted):
            self.ctx.progress.say(line)
        record_holdout_use(self.ctx, self.candidate, self.dataset.ref.digest)
        shards = plan_shards(self.ctx, self.candidate, self.policy, sliced, sharding) if sharding else ()
        return {"shards": [shard.model_dump(mode="json") for shard in shards]}

    def measure(self, shards: Sequence[Shard], results: Sequence[Result]) -> Result:
        """The evidence of every check, and the checks that failed."""
        partial_results = merged_shards(self.ctx, shards, results)
        found = measured(self.ctx, self.candidate, self.policy, self.sliced, self.cache, partial_results)
        return {
            "evidence": [item.digest for item in found if isinstance(item, Evidence)],
            "failed": [item.digest for item in found if isinstance(item, CheckFailed)],
        }

    def explore(self) -> Result:
        """Discovered slices and exemplars; a crash here never blocks the decision."""
        args = (self.ctx, self.candidate, self.policy, self.counted, self.cache)
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
