"""Measure a candidate beside its parent by every check of a policy.

Evidence is looked up by content first: the same candidate, data, check, parameters, seed and code are never
measured twice.  A check that crashes becomes a record, and the rules that needed it become unknown; this is the
one place in the code that catches everything.

Audit in stages: measure some of the images, judge, and go on only while nothing is decided.

An audit as shards: some checks on one part of every pass, measured anywhere, put together in one place.

The plan depends on the candidate, the policy and the data set, never on who works; and the evidence does not depend
on the plan (see ``measuring.parts``).  What a shard found is kept as a blob, so that a worker that dies loses the
shard that it was at, and nothing else.
"""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch

from auditsvc.checks import check_named
from auditsvc.datasets import Dataset
from auditsvc.errors import Cancelled, Conflict, InvalidInput, Unavailable
from auditsvc.evaluation import Check, EvalContext, Predictions, code_version
from auditsvc.evaluation.sequential import Kept, StageContext, Staged, order_of, stage_sizes
from auditsvc.evaluation.sharding import (
    GatheredContext,
    ImageRange,
    PartialResults,
    ShardContext,
    as_bytes,
    from_bytes,
    put_together,
)
from auditsvc.gate import decide
from auditsvc.models.devices import device_words
from auditsvc.ports import Context, Result
from auditsvc.records import (
    OVERALL,
    Candidate,
    CheckFailed,
    Evidence,
    EvidenceKey,
    Parent,
    Policy,
    Reading,
    Shard,
    Waiver,
)
from auditsvc.records.eligibility import slicing_of
from auditsvc.services.decisions import holdout_uses, incumbent_of
from auditsvc.services.model_store import load_stored
from auditsvc.services.power import slice_sizes, undersized_slices, with_policy_slices
from auditsvc.services.watermarking import detect_watermark
from auditsvc.tasks import task_named


@dataclass(frozen=True)
class StageHooks:
    """How an audit measures: what its cases have in common (asked for only if needed), a check's key, one run."""

    fields: Callable[[], dict[str, Any]]
    key_of: Callable[[Check], EvidenceKey]
    run: Callable[[Context, Check, EvidenceKey, EvalContext], Evidence | CheckFailed]


def fresh_evidence(ctx: Context, key: EvidenceKey, policy: Policy) -> Evidence | None:
    """The first evidence with this key in the ledger that is not too old for the policy."""
    oldest = ctx.clock.now() - datetime.timedelta(days=policy.max_age_days)
    return next((found for found in ctx.ledger.find(Evidence, key.text()) if found.finished >= oldest), None)


def audit_in_stages(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset, how: StageHooks, kept: Kept
) -> tuple[Evidence | CheckFailed, ...]:
    """The evidence of the first stage after which the policy approves or rejects; of the last one if none does."""
    order = order_of(dataset.slices, policy.seed)
    sizes = stage_sizes(dataset.slices, policy.seed, policy.stages or (1.0,))
    fields: dict[str, Any] = {}
    results: tuple[Evidence | CheckFailed, ...] = ()
    for size in sizes:
        checks = [check_named(name, spec) for name, spec in policy.checks.items()]
        keys = {check.id: how.key_of(check).model_copy(update={"stage": size}) for check in checks}
        known = {name: fresh_evidence(ctx, key, policy) for name, key in keys.items()}
        if None in known.values():
            fields = fields or how.fields()
            case = StageContext(**(fields | {"dataset": Staged(dataset, order, size)}), kept=kept)
        results = tuple(
            known[check.id] or _appended(ctx, how.run(ctx, check, keys[check.id], case), dataset) for check in checks
        )
        outcome = _outcome(ctx, candidate, policy, results)
        ctx.progress.say(f"after {size} of {dataset.ref.images} images: {outcome}")
        if outcome != "inconclusive":
            break
    return results


def _appended(ctx: Context, found: Evidence | CheckFailed, dataset: Dataset) -> Evidence | CheckFailed:
    """Written down; evidence of a stage names the whole data set, and how many images each slice has in it."""
    if isinstance(found, Evidence):
        found = found.model_copy(update={"dataset": dataset.ref, "whole": slice_sizes(dataset)})
    ctx.ledger.append(found, actor="auditsvc")
    return found


def _outcome(ctx: Context, candidate: Candidate, policy: Policy, results: tuple[Evidence | CheckFailed, ...]) -> str:
    evidence = [item for item in results if isinstance(item, Evidence)]
    looks = {item.key.dataset: holdout_uses(item.key.dataset, candidate.model, ctx.ledger) for item in evidence}
    waivers, incumbent = ctx.ledger.find(Waiver, candidate.digest), incumbent_of(candidate, ctx.ledger)
    now = ctx.clock.now()
    return decide(policy, candidate, evidence, waivers=waivers, incumbent=incumbent, holdout_uses=looks, at=now).outcome


def audit(
    ctx: Context,
    candidate: Candidate,
    policy: Policy,
    dataset: Dataset,
    remembered: MutableMapping[str, Predictions] | None = None,
    answers: PartialResults | None = None,
) -> tuple[Evidence | CheckFailed, ...]:
    """Evidence for every check of the policy, measured now or found in the ledger.

    ``remembered`` carries what was measured of the parent from one candidate to the next; ``answers`` is what was
    measured in parts already (``measure_part``).

    Raises:
        InvalidInput: a data set of another task or other classes than the model's.
    """
    ctx.ledger.append(policy, actor="auditsvc")
    parent = ctx.ledger.get(Parent, candidate.parent)
    dataset = with_policy_slices(policy, dataset)
    for line in undersized_slices(policy, dataset):
        ctx.progress.say(f"can't be approved on this data set: {line}")
    if policy.stages:
        how = StageHooks(
            fields=lambda: _fields(ctx, candidate, parent, policy, dataset),
            key_of=lambda check: _key(check, candidate, policy, dataset),
            run=_run,
        )
        return audit_in_stages(ctx, candidate, policy, dataset, how, {} if remembered is None else remembered)
    known = known_evidence(ctx, candidate, policy, dataset)
    results: dict[str, Evidence | CheckFailed] = {name: item for name, item in known.items() if item}
    if results:
        ctx.progress.say(f"found again, not measured twice: {', '.join(sorted(results))}")
    missing = {name: check_named(name, spec) for name, spec in policy.checks.items() if name not in results}
    if missing:
        fields = _fields(ctx, candidate, parent, policy, dataset)
        case = GatheredContext(**fields, remembered={} if remembered is None else remembered, found=answers or {})
        for name, check in missing.items():
            results[name] = _run(ctx, check, _key(check, candidate, policy, dataset), case)
            ctx.ledger.append(results[name], actor="auditsvc")
    return tuple(results[name] for name in policy.checks)


def known_evidence(ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset) -> dict[str, Evidence | None]:
    """For each check of the policy the first evidence in the ledger that is not too old for it."""
    checks = {name: check_named(name, spec) for name, spec in policy.checks.items()}
    keys = {name: _key(check, candidate, policy, dataset) for name, check in checks.items()}
    return {name: fresh_evidence(ctx, key, policy) for name, key in keys.items()}


def measure_part(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset, names: Iterable[str], part: ImageRange
) -> PartialResults:
    """What both models answer in one part of every pass that these checks make.

    A check that crashes here is heard of where the parts are put together, and becomes a record there.
    """
    dataset = with_policy_slices(policy, dataset)
    fields = _fields(ctx, candidate, ctx.ledger.get(Parent, candidate.parent), policy, dataset)
    case = ShardContext(**fields, part=part)
    for name in names:
        check = check_named(name, policy.checks[name])
        _run(ctx, check, _key(check, candidate, policy, dataset), case)
    return case.found


def _key(check: Check, candidate: Candidate, policy: Policy, dataset: Dataset) -> EvidenceKey:
    return EvidenceKey(
        candidate=candidate.digest,
        parent=candidate.parent,
        dataset=dataset.ref.digest,
        check=check.id,
        version=check.version,
        parameters=check.parameters(),
        seed=policy.seed,
        alpha=policy.level,
        code=code_version(),
        slicing=slicing_of(policy),
    )


def _fields(ctx: Context, candidate: Candidate, parent: Parent, policy: Policy, dataset: Dataset) -> dict[str, Any]:
    """What every case of this audit has in common."""
    model, dense = (load_stored(ctx, files).on(ctx.device) for files in (candidate.files, parent.files))
    _require_same_world(candidate, policy, dataset, model.card.classes)
    return {
        "candidate": model,
        "candidate_digest": candidate.digest,
        "parent": dense,
        "parent_digest": parent.digest,
        "task": task_named(candidate.task, dataset.classes),
        "dataset": dataset,
        "seed": policy.seed,
        "alpha": policy.level,
        "device": ctx.device,
        "read_mark": partial(detect_watermark, ctx, candidate, dataset) if candidate.mark else None,
    }


def _require_same_world(candidate: Candidate, policy: Policy, dataset: Dataset, classes: tuple[str, ...]) -> None:
    if policy.task not in ("any", candidate.task):
        raise InvalidInput(f"the model is for {candidate.task}, the policy {policy.policy} for {policy.task}")
    unfit = [fault for name, spec in policy.checks.items() for fault in check_named(name, spec).faults(candidate.task)]
    if unfit:
        raise InvalidInput(f"the policy {policy.policy} asks what this model can't answer", unfit)
    if candidate.task != dataset.ref.task:
        raise InvalidInput(f"the model is for {candidate.task}, the data set {dataset.ref.name} for {dataset.ref.task}")
    if classes != dataset.classes:
        raise InvalidInput(
            f"the model's classes are {', '.join(classes)}, those of the data set {dataset.ref.name} are "
            f"{', '.join(dataset.classes)}; give both the same names in the same order"
        )


def _run(ctx: Context, check: Check, key: EvidenceKey, case: EvalContext) -> Evidence | CheckFailed:
    """One check; whatever it raises is a record, unless the machine failed or somebody stopped it."""
    started = ctx.clock.now()
    case.flips.clear()
    passes = max(1, round(check.cost()))
    with ctx.progress.step(check.id, passes * case.dataset.ref.images) as tick:
        case.tick = tick
        try:
            readings = tuple(check.measure(case))
            _require_complete(check, readings, case.dataset)
        except (Unavailable, Cancelled):
            raise
        except Exception as error:  # noqa: BLE001 - a crashed check is a record
            text = f"{type(error).__name__}: {error}"[:4000]
            return CheckFailed(key=key, error=text, at=ctx.clock.now())
    return Evidence(
        key=key,
        dataset=case.dataset.ref,
        readings=readings,
        flips=tuple(case.flips),
        environment=_environment(case.device),
        declared=check.declarations(),
        started=started,
        finished=ctx.clock.now(),
    )


def _require_complete(check: Check, readings: tuple[Reading, ...], dataset: Dataset) -> None:
    """A check gives every metric that it declares, on overall at least, and no other; else it is broken."""
    given = {reading.metric for reading in readings if reading.slice == OVERALL}
    declared = {metric.id for metric in check.metrics()}
    if given != declared or {reading.metric for reading in readings} - declared:
        raise InvalidInput(f"the check {check.id} declares {sorted(declared)} and gave {sorted(given)}")
    known = set(dataset.slices.names)
    strange = {reading.slice for reading in readings} - known
    if strange:
        raise InvalidInput(f"the check {check.id} gave readings for slices that do not exist: {sorted(strange)}")


def _environment(device: str) -> dict[str, str]:
    """On another device the last digits of an answer differ, so it is told; one audit runs on one kind only."""
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "system": platform.system(),
        "threads": str(torch.get_num_threads()),
        "device": device_words(device),
    }


SHARD_WORK = 40_000
"""Images that go through the models in one shard, roughly: a dead worker loses less than a minute or two."""

_BATCH = 32


def shards_of(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset, whose: tuple[str, str], work: int = SHARD_WORK
) -> tuple[Shard, ...]:
    """The shards of what is not measured yet; none where there is too little to share, or where stages decide how much.

    ``whose`` is the job and the name of the data set.  Checks that make one pass share it, in one shard.
    """
    if policy.stages:
        return ()
    known = known_evidence(ctx, candidate, policy, with_policy_slices(policy, dataset))
    missing = {name: check_named(name, policy.checks[name]) for name, found in known.items() if found is None}
    made = tuple(
        Shard(
            job=whose[0],
            data=whose[1],
            candidate=candidate.digest,
            policy=policy.digest,
            dataset=dataset.ref.digest,
            checks=tuple(group),
            part=part,
            parts=parts,
        )
        for group in _groups(missing)
        for parts in [_parts([missing[name] for name in group], dataset.ref.images, work)]
        for part in range(parts)
    )
    return made if len(made) > 1 else ()


def _groups(checks: dict[str, Check]) -> Iterator[list[str]]:
    """Cheap checks together, every other alone; checks that put nothing before the models are not shared out."""
    working = {name: check for name, check in checks.items() if check.conditions()}
    cheap = [name for name, check in working.items() if check.cost() <= 1]
    if cheap:
        yield cheap
    yield from ([name] for name in working if name not in cheap)


def _parts(checks: Sequence[Check], images: int, work: int) -> int:
    """So many that each has about the same work, but no more than there are batches."""
    tried = max(min(images, getattr(check, "images", images)) for check in checks)
    most = math.ceil(tried / _BATCH)
    return max(1, min(most, math.ceil(max(check.work(images) for check in checks) / work)))


def measure(ctx: Context, shard: Shard, dataset: Dataset) -> Result:
    """Measure one shard and keep what was found as a blob.

    Raises:
        Conflict: the data set is not the one that was planned for.
    """
    if dataset.ref.digest != shard.dataset:
        raise Conflict(f"the data set {shard.data} was changed while the job ran; ask for a new audit")
    candidate, policy = ctx.ledger.get(Candidate, shard.candidate), ctx.ledger.get(Policy, shard.policy)
    part = ImageRange(shard.part, shard.parts)
    return {"answers": ctx.blobs.put(as_bytes(measure_part(ctx, candidate, policy, dataset, shard.checks, part)))}


def gathered(ctx: Context, shards: Sequence[Shard], results: Sequence[Result]) -> PartialResults:
    """What all shards found, put together."""
    found: PartialResults = {}
    both = zip(shards, results, strict=True)
    for _, group in groupby(both, key=lambda pair: pair[0].checks):
        found |= put_together([from_bytes(ctx.blobs.read(result["answers"])) for _, result in group])
    return found
