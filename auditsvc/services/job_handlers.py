"""What each kind of job does, as steps of use cases; the engine that runs and stores the steps is an adapter.

A step whose result is stored is never run again.  A step that was killed is run again from its start, which is safe
because every use case finds by content what it did before.  Results are digests and names, so a job can continue in
another process, on another machine.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import cast

from auditsvc.datasets import Dataset
from auditsvc.datasets.image_dataset import ImageDataset
from auditsvc.errors import InvalidDataset, InvalidInput, NotFound
from auditsvc.ports import Context, Progress, Result, Runner
from auditsvc.records import (
    AdmitRequest,
    AuditRequest,
    Candidate,
    Decision,
    Evidence,
    JobId,
    JobRequest,
    MonitorRequest,
    Parent,
    ParentRequest,
    Policy,
    PruneRequest,
    Release,
    ReleaseRequest,
    ReportRequest,
    Shard,
)
from auditsvc.services import measurement
from auditsvc.services.audit import audit_candidate
from auditsvc.services.candidates import admit_request, prune_candidate, register_request, submit
from auditsvc.services.measurement import SHARD_WORK, Sharding
from auditsvc.services.monitoring import monitor
from auditsvc.services.policies import resolve_remote_policy
from auditsvc.services.release import release
from auditsvc.services.reporting import write_report
from auditsvc.services.watermarking import WatermarkOptions


@dataclass
class JobContext:
    """What a worker needs to run jobs: the ports and the folder of the data sets."""

    ctx: Context
    data: Path
    shard_work: int = SHARD_WORK
    """Images that go through the models in one shard of an audit, roughly."""
    _opened: dict[str, Dataset] = field(default_factory=dict)

    def for_job(self, progress: Progress) -> JobContext:
        """The context of one job: with its own progress, and data sets that are opened, and checked, once."""
        return replace(self, ctx=replace(self.ctx, progress=progress), _opened={})

    def dataset(self, name: str) -> Dataset:
        """The data set of this name below the data folder, or the Parquet file of this digest that was uploaded.

        Raises:
            NotFound: there is none, or the name leads out of the folder.
            InvalidDataset: with every fault in it, or with a link out of the data folder, a pipe or a device.
        """
        if name not in self._opened and name.startswith("sha256:"):
            with tempfile.TemporaryDirectory(prefix="auditsvc-") as folder:
                path = Path(folder) / f"uploaded-{name[7:19]}.parquet"
                path.write_bytes(self.ctx.blobs.read(name))
                opened = self.ctx.datasets.open(path)
            self._opened[name] = replace(
                cast(ImageDataset, opened), ref=opened.ref.model_copy(update={"source": f"uploaded as {name}"})
            )
        if name not in self._opened:
            self._opened[name] = self.ctx.datasets.open(self.path(name))
        return self._opened[name]

    def path(self, name: str) -> Path:
        """What has this name below the data folder.  Raises as ``dataset`` does."""
        path, root = (self.data / name).resolve(), self.data.resolve()
        if not path.is_relative_to(root) or not path.exists():
            raise NotFound(f"no data set {name} in the service's data folder (AUDITSVC_DATA_DIR)")
        if odd := next(_leading_out(path, root), None):
            raise InvalidDataset(f"{odd.relative_to(root)} is no file of the data folder: copy what it names there")
        return path


def _leading_out(folder: Path, root: Path) -> Iterator[Path]:
    """Links that lead out of ``root``, or nowhere, and what is neither a file nor a folder."""
    for place, folders, files in os.walk(folder):
        for path in (Path(place, name) for name in (*folders, *files)):
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                if not path.resolve().is_relative_to(root) or not (path.is_file() or path.is_dir()):
                    yield path
            elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                yield path


def run_job(job: JobId, request: JobRequest, by: str, context: JobContext, runner: Runner) -> Result:
    """Do what was requested, step by step; run again, it continues after the last step that was stored.

    Raises:
        AuditError: what the use cases raise.
    """
    match request:
        case ParentRequest():
            return runner.step("register", partial(_register, request, context))
        case PruneRequest():
            return _prune(request, by, context, runner)
        case AdmitRequest():
            return _admit(request, by, job, context, runner)
        case AuditRequest():
            return _audit(request, job, context, runner)
        case ReleaseRequest():
            return runner.step("release", partial(_release, context.ctx, request))
        case ReportRequest():
            return runner.step("report", partial(_report, request, context))
        case MonitorRequest():
            return runner.step("monitor", partial(_monitor, request, by, context))


def _register(request: ParentRequest, context: JobContext) -> Result:
    parent, version = register_request(context.ctx, request, context.dataset(request.probe))
    return {"parent": parent.digest, "version": version}


def _prune(request: PruneRequest, by: str, context: JobContext, runner: Runner) -> Result:
    made = runner.step("make", partial(_make, request, context))
    return made | runner.step("submit", partial(_submit, context.ctx, made["candidate"], by))


def _admit(request: AdmitRequest, by: str, job: JobId, context: JobContext, runner: Runner) -> Result:
    def admit() -> Result:
        return {"candidate": admit_request(context.ctx, request, context.dataset(request.probe)).digest}

    made = runner.step("admit", admit)
    made |= runner.step("submit", partial(_submit, context.ctx, made["candidate"], by))
    if request.policy is None or request.data is None:
        return made
    audited = AuditRequest(candidate=made["candidate"], policy=request.policy, data=request.data)
    return made | _audit(audited, job, context, runner)


def _make(request: PruneRequest, context: JobContext) -> Result:
    parent = context.ctx.ledger.get(Parent, request.parent)
    training = tuple(context.dataset(name) for name in request.training)
    calibration, marking = context.dataset(request.calibration), WatermarkOptions(request.recipient)
    with context.ctx.progress.step("prune, watermark, reload"):
        made = prune_candidate(
            context.ctx,
            parent,
            request.recipe,
            calibration,
            training,
            onnx=request.onnx,
            runtimes=request.runtimes,
            marking=marking,
        )
    return {"candidate": made.digest}


def _submit(ctx: Context, digest: str, by: str) -> Result:
    candidate = ctx.ledger.get(Candidate, digest)
    parent = ctx.ledger.get(Parent, candidate.parent)
    with ctx.progress.step("submit"), tempfile.TemporaryDirectory(prefix="auditsvc-") as scratch:
        folder = Path(scratch) / "parent"
        ctx.blobs.checkout(parent.files, folder)
        asked = submit(ctx, candidate, ctx.registry.register_parent(parent, folder), by)
    return {"model": asked.model, "version": asked.version, "submission": asked.digest}


def _audit(request: AuditRequest, job: JobId, context: JobContext, runner: Runner) -> Result:
    """``audit_candidate`` in stored steps; the policy is resolved once, so a running job keeps its version."""
    ctx = context.ctx
    resolved = runner.step("policy", partial(_policy, ctx, request.policy))
    done = audit_candidate(
        ctx,
        ctx.ledger.get(Candidate, request.candidate),
        ctx.ledger.get(Policy, resolved["policy"]),
        context.dataset(request.data),
        runner=runner,
        sharding=Sharding(job, request.data, context.shard_work),
        expected_accuracy=request.expect_accuracy,
    )
    return {
        "evidence": [item.digest for item in done.evidence],
        "failed": [item.digest for item in done.failures],
        "slices": done.discovered.digest if done.discovered else None,
        "exemplars": done.exemplars.digest if done.exemplars else None,
        "decision": done.decision.digest,
        "outcome": done.decision.outcome,
        "obstacles": list(done.obstacles),
        "reports": [path.relative_to(ctx.folder).as_posix() for path in done.reports],
    }


def _policy(ctx: Context, name: str) -> Result:
    policy = resolve_remote_policy(name, ctx.ledger)
    ctx.ledger.append(policy, actor="auditsvc")
    return {"policy": policy.digest}


def measure_shard(shard: Shard, context: JobContext) -> Result:
    """One shard of an audit, on any worker.

    Raises:
        AuditError: what ``measurement.measure_shard`` raises.
    """
    return measurement.measure_shard(context.ctx, shard, context.dataset(shard.data))


def _release(ctx: Context, request: ReleaseRequest) -> Result:
    decision = ctx.ledger.get(Decision, request.decision)
    candidate = ctx.ledger.get(Candidate, decision.candidate)
    with ctx.progress.step("sign, attest, log, verify"):
        sealed: Release = release(ctx, candidate, decision)
    return {"release": sealed.digest}


def _report(request: ReportRequest, context: JobContext) -> Result:
    ctx = context.ctx
    decision = ctx.ledger.get(Decision, request.decision)
    candidate = ctx.ledger.get(Candidate, decision.candidate)
    dataset = context.dataset(request.data)
    audited = {ctx.ledger.get(Evidence, one).dataset.digest for one in decision.evidence}
    if audited and dataset.ref.digest not in audited:
        raise InvalidInput(f"the decision does not rest on the data set {request.data}; name the one that was audited")
    with ctx.progress.step("report"):
        paths = write_report(ctx, candidate, decision, dataset, formats=request.formats)
    return {"reports": [path.relative_to(ctx.folder).as_posix() for path in paths]}


def _monitor(request: MonitorRequest, by: str, context: JobContext) -> Result:
    release = context.ctx.ledger.get(Release, request.release)
    data = context.dataset(request.data) if request.data else None
    made = monitor(context.ctx, release, by, data, locate=context.path)
    return {"monitoring": made.digest, "outcome": made.outcome}
