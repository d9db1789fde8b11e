"""Jobs: the verbs in the steps of one piece of background work, without a word of the engine that runs it.

A step is what is never done again once its result is kept.  Killed in the middle it is run again from its start, which
is safe because every verb finds by content what it did before.  Results are digests, so that a job can go on in
another process, on another machine.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from auditsvc.datasets import Dataset
from auditsvc.errors import InvalidInput, NotFound
from auditsvc.ports import Context, Progress, Result, Runner
from auditsvc.records import (
    AdmitRequest,
    AuditRequest,
    Candidate,
    CheckFailed,
    Decision,
    Evidence,
    JobId,
    JobRequest,
    MonitorRequest,
    Parent,
    Policy,
    PruneRequest,
    Release,
    ReleaseRequest,
    ReportRequest,
    Shard,
)
from auditsvc.services.audit import SHARD_WORK, audit, gathered, measure, shards_of
from auditsvc.services.candidates import admit_request, prune_candidate, submit
from auditsvc.services.decisions import judge
from auditsvc.services.release import release
from auditsvc.services.reporting import write_report
from auditsvc.services.watching import monitor
from auditsvc.services.watermarking import WatermarkOptions

PolicyFor = Callable[[str, Sequence[str]], Policy]
"""A policy by name or digest, refused if it does not fit these slices."""


@dataclass
class JobContext:
    """What a worker needs to do jobs: the ports, the folder of the data sets, the policies."""

    ctx: Context
    data: Path
    policy_for: PolicyFor
    shard_work: int = SHARD_WORK
    """Images that go through the models in one shard of an audit, roughly."""
    _opened: dict[str, Dataset] = field(default_factory=dict)

    def for_job(self, progress: Progress) -> JobContext:
        """The room for one job: with its own progress, and data sets that are opened, and checked, once."""
        return replace(self, ctx=replace(self.ctx, progress=progress), _opened={})

    def dataset(self, name: str) -> Dataset:
        """The data set of this name below the data folder.

        Raises:
            NotFound: there is none, or the name leads out of the folder.
            InvalidDataset: with every fault in it.
        """
        if name not in self._opened:
            path = (self.data / name).resolve()
            if not path.is_relative_to(self.data.resolve()) or not path.exists():
                raise NotFound(f"no data set {name} in the service's data folder (AUDITSVC_DATA)")
            self._opened[name] = self.ctx.datasets.open(path)
        return self._opened[name]


def run_job(job: JobId, order: JobRequest, by: str, room: JobContext, runner: Runner) -> Result:
    """Do what is asked for, step by step; run again, it goes on behind the last step that was kept.

    Raises:
        AuditError: what the verbs raise.
    """
    match order:
        case PruneRequest():
            return _prune(order, by, room, runner)
        case AdmitRequest():
            return _admit(order, by, job, room, runner)
        case AuditRequest():
            return _audit(order, job, room, runner)
        case ReleaseRequest():
            return runner.step("release", partial(_release, room.ctx, order))
        case ReportRequest():
            return runner.step("report", partial(_report, order.decision, order.data, order.formats, room))
        case MonitorRequest():
            return runner.step("monitor", partial(_monitor, order, by, room))


def _prune(order: PruneRequest, by: str, room: JobContext, runner: Runner) -> Result:
    made = runner.step("make", partial(_make, order, room))
    return made | runner.step("submit", partial(_submit, room.ctx, made["candidate"], by))


def _admit(order: AdmitRequest, by: str, job: JobId, room: JobContext, runner: Runner) -> Result:
    made = runner.step("admit", lambda: {"candidate": admit_request(room.ctx, order, room.dataset(order.probe)).digest})
    made |= runner.step("submit", partial(_submit, room.ctx, made["candidate"], by))
    if order.policy is None or order.data is None:
        return made
    audit_of_it = AuditRequest(candidate=made["candidate"], policy=order.policy, data=order.data)
    return made | _audit(audit_of_it, job, room, runner)


def _make(order: PruneRequest, room: JobContext) -> Result:
    parent = room.ctx.ledger.get(Parent, order.parent)
    training = tuple(room.dataset(name) for name in order.training)
    calibration, marking = room.dataset(order.calibration), WatermarkOptions(order.recipient)
    with room.ctx.progress.step("prune, mark, load again"):
        made = prune_candidate(room.ctx, parent, order.recipe, calibration, training, onnx=order.onnx, marking=marking)
    return {"candidate": made.digest}


def _submit(ctx: Context, digest: str, by: str) -> Result:
    candidate = ctx.ledger.get(Candidate, digest)
    parent = ctx.ledger.get(Parent, candidate.parent)
    with ctx.progress.step("submit"), tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch) / "parent"
        ctx.blobs.checkout(parent.files, folder)
        asked = submit(ctx, candidate, ctx.registry.register_parent(parent, folder), by)
    return {"model": asked.model, "version": asked.version, "submission": asked.digest}


def _audit(order: AuditRequest, job: JobId, room: JobContext, runner: Runner) -> Result:
    planned = runner.step("plan", partial(_plan, order, job, room))
    shards = tuple(Shard.model_validate(one) for one in planned["shards"])
    results = runner.spread(shards)
    measured = runner.step("measure", partial(_measure, order, planned["policy"], shards, results, room))
    judged = runner.step("judge", partial(_judge, room.ctx, order, planned["policy"], measured))
    written = runner.step("report", partial(_report, judged["decision"], order.data, ("html",), room))
    return measured | judged | written


def _plan(order: AuditRequest, job: JobId, room: JobContext) -> Result:
    candidate = room.ctx.ledger.get(Candidate, order.candidate)
    dataset = room.dataset(order.data)
    policy = room.policy_for(order.policy, dataset.slices.names)
    room.ctx.ledger.append(policy, actor="auditsvc")
    shards = shards_of(room.ctx, candidate, policy, dataset, (job, order.data), room.shard_work)
    return {"policy": policy.digest, "shards": [shard.model_dump(mode="json") for shard in shards]}


def measure_shard(shard: Shard, room: JobContext) -> Result:
    """One shard of an audit, wherever there is room for it.

    Raises:
        AuditError: what ``sharding.measure`` raises.
    """
    return measure(room.ctx, shard, room.dataset(shard.data))


def _measure(
    order: AuditRequest, policy: str, shards: Sequence[Shard], results: Sequence[Result], room: JobContext
) -> Result:
    ledger = room.ctx.ledger
    candidate, rules = ledger.get(Candidate, order.candidate), ledger.get(Policy, policy)
    answers = gathered(room.ctx, shards, results)
    found = audit(room.ctx, candidate, rules, room.dataset(order.data), answers=answers)
    return {
        "evidence": [item.digest for item in found if isinstance(item, Evidence)],
        "failed": [item.digest for item in found if isinstance(item, CheckFailed)],
    }


def _judge(ctx: Context, order: AuditRequest, policy: str, measured: Result) -> Result:
    candidate, rules = ctx.ledger.get(Candidate, order.candidate), ctx.ledger.get(Policy, policy)
    evidence = [ctx.ledger.get(Evidence, digest) for digest in measured["evidence"]]
    with ctx.progress.step("judge"):
        decision = judge(ctx, candidate, rules, evidence)
    return {"decision": decision.digest, "outcome": decision.outcome}


def _release(ctx: Context, order: ReleaseRequest) -> Result:
    decision = ctx.ledger.get(Decision, order.decision)
    candidate = ctx.ledger.get(Candidate, decision.candidate)
    with ctx.progress.step("sign, attest, log, verify"):
        sealed: Release = release(ctx, candidate, decision)
    return {"release": sealed.digest}


def _report(digest: str, data: str, formats: tuple[str, ...], room: JobContext) -> Result:
    ctx = room.ctx
    decision = ctx.ledger.get(Decision, digest)
    candidate = ctx.ledger.get(Candidate, decision.candidate)
    dataset = room.dataset(data)
    seen = {ctx.ledger.get(Evidence, one).dataset.digest for one in decision.evidence}
    if seen and dataset.ref.digest not in seen:
        raise InvalidInput(f"the decision does not rest on the data set {data}; name the one that was audited")
    with ctx.progress.step("report"):
        paths = write_report(ctx, candidate, decision, dataset, formats=formats)
    return {"reports": [path.relative_to(ctx.folder).as_posix() for path in paths]}


def _monitor(order: MonitorRequest, by: str, room: JobContext) -> Result:
    release = room.ctx.ledger.get(Release, order.release)
    baseline = room.dataset(order.baseline) if order.baseline else None
    made = monitor(room.ctx, release, room.dataset(order.data), by, baseline=baseline)
    return {"monitoring": made.digest, "outcome": made.outcome}
