"""Measuring one candidate next to its parent by every check of a policy: the evidence, and nothing of the judgement.

Evidence is found by content first: the same candidate, data, check, parameters, seed and code are never measured
twice.  A check that crashes becomes a record, and the rules that needed it become unknown; this module has the only
handler in the package that catches every exception.

A policy with ``stages`` is measured on some of the images first, and on more only while the outcome is inconclusive
(``evaluation.sequential``).  A large audit can be divided into shards: some checks on one part of the images of every
pass, measured on any worker and merged here (``evaluation.sharding``).  The shards depend on the candidate, the policy
and the data set, never on the number of workers, and the evidence does not depend on the shards.  The result of a
shard is kept as a blob, so a worker that dies loses one shard at most.
"""

from __future__ import annotations

import datetime
import math
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, TypeVar

import torch

from auditsvc.checks import check_named
from auditsvc.datasets import Dataset
from auditsvc.datasets.scaling import one_size, scaled_for
from auditsvc.errors import Cancelled, Conflict, InvalidInput, Unavailable
from auditsvc.evaluation import Check, EvalContext, code_version
from auditsvc.evaluation.sequential import StageContext, Staged, order_of, stage_sizes
from auditsvc.evaluation.sharding import (
    GatheredContext,
    ImageRange,
    PartialResults,
    ShardContext,
    as_bytes,
    from_bytes,
    merge_partial_results,
)
from auditsvc.models import ArchitectureCard
from auditsvc.models.answer_table import images_digest
from auditsvc.models.devices import device_words
from auditsvc.models.model import PREDICTIONS
from auditsvc.ports import Context, Result
from auditsvc.records import (
    OVERALL,
    Candidate,
    CheckFailed,
    Digest,
    Evidence,
    EvidenceKey,
    JobId,
    Parent,
    Policy,
    Reading,
    Shard,
    Unmeasured,
    digest_of,
)
from auditsvc.records.architecture import Preprocessing
from auditsvc.records.eligibility import slicing_of
from auditsvc.records.evidence import NullDraws
from auditsvc.services.answer_cache import answer_cache
from auditsvc.services.data_cards import data_facts
from auditsvc.services.decisions import decide_now
from auditsvc.services.deployment import power_of, time_run
from auditsvc.services.device_kit import device_answers, device_cost, device_power, measurement_of
from auditsvc.services.holdout import count_copies_once, level_for, require_consent, require_unseen
from auditsvc.services.model_store import load_stored, open_run, other_runs
from auditsvc.services.power import slice_sizes, undersized_slices, with_policy_slices
from auditsvc.services.terms import data_uses
from auditsvc.services.watermarking import detect_watermark, mark_in_answers
from auditsvc.tasks import task_named

"""Predictions by what was done to which model; shared, it lets audits of one parent run the parent once."""

T = TypeVar("T")


@dataclass(frozen=True)
class Sharding:
    """How an audit is divided: for which job, under which name workers find the data set, how much work per shard."""

    job: JobId
    data: str
    work: int


def measure_candidate(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset
) -> tuple[Evidence | CheckFailed, ...]:
    """The evidence for every check of the policy, measured now or found in the ledger; nothing is judged.

    Raises:
        InvalidInput: a data set of another task or other classes than the model's.
    """
    ctx.ledger.append(policy, actor="auditsvc")
    sliced = with_policy_slices(policy, prepared(ctx, candidate, dataset))
    return measured(ctx, candidate, policy, sliced, {})


def prepared(ctx: Context, candidate: Candidate, dataset: Dataset) -> Dataset:
    """The data set as this candidate may be measured on it: equal images counted once.

    Raises:
        InvalidInput: the candidate or its parent was made with some of these images, or the consent for some ended.
    """
    require_consent(ctx, dataset)
    require_unseen(ctx, candidate, dataset)
    return count_copies_once(ctx, dataset)


def measured(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset, answers: PartialResults
) -> tuple[Evidence | CheckFailed, ...]:
    """``dataset`` has the policy's slices; ``answers`` are the merged results of shards."""
    for line in undersized_slices(policy, dataset):
        ctx.progress.say(f"can't be approved on this data set: {line}")
    if policy.stages:
        return _measured_in_stages(ctx, candidate, policy, dataset)
    level = level_for(policy, candidate, dataset.ref.digest, ctx.ledger)
    known = _known_evidence(ctx, candidate, policy, dataset, level)
    results: dict[str, Evidence | CheckFailed] = {name: item for name, item in known.items() if item}
    if results:
        ctx.progress.say(f"found in the ledger, not measured again: {', '.join(sorted(results))}")
    missing = {name: check_named(name, spec) for name, spec in policy.checks.items() if name not in results}
    if missing:
        fields = _context_fields(ctx, candidate, policy, dataset, level)
        context = GatheredContext(**fields, cache=answer_cache(ctx), found=answers)
        for name, check in missing.items():
            results[name] = _run(ctx, check, _key(ctx, check, candidate, policy, dataset, level), context)
            ctx.ledger.append(results[name], actor="auditsvc")
    return tuple(results[name] for name in policy.checks)


def measured_again(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset
) -> tuple[tuple[Evidence, Evidence | CheckFailed], ...]:
    """The evidence in the ledger, each with what its check finds now without any answer that was kept.

    Nothing is recorded: evidence that could be made again until it suits would prove nothing.  Raises ``InvalidInput``
    for a policy with stages, or a check that was not measured yet.
    """
    level = level_for(policy, candidate, dataset.ref.digest, ctx.ledger)
    known = _known_evidence(ctx, candidate, policy, dataset, level)
    if policy.stages or None in known.values():
        words = "its policy measures in stages" if policy.stages else "audit it first: not every check was measured"
        raise InvalidInput(f"there is nothing to compare with: {words}")
    fields, answers = _context_fields(ctx, candidate, policy, dataset, level), PartialResults()
    mark = fields["read_mark"] and partial(fields["read_mark"], answers=answers)
    fields |= {"draws": {}, "cache": answers, "read_mark": mark}
    context = EvalContext(**fields)
    pairs = [
        (one, _run(ctx, check_named(name, policy.checks[name]), one.key, context)) for name, one in known.items() if one
    ]
    return tuple(pairs)


def _measured_in_stages(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset
) -> tuple[Evidence | CheckFailed, ...]:
    """The evidence of the first stage after which the policy approves or rejects; of the last one if none does."""
    order = order_of(dataset.slices, policy.seed)
    level = level_for(policy, candidate, dataset.ref.digest, ctx.ledger)
    fields: dict[str, Any] = {}
    kept, results = answer_cache(ctx), tuple[Evidence | CheckFailed, ...]()
    for size in stage_sizes(dataset.slices, policy.seed, policy.stages or (1.0,)):
        checks = [check_named(name, spec) for name, spec in policy.checks.items()]
        keys = {
            check.id: _key(ctx, check, candidate, policy, dataset, level).model_copy(update={"stage": size})
            for check in checks
        }
        known = {name: _fresh_evidence(ctx, key, policy) for name, key in keys.items()}
        if None in known.values():
            fields = fields or _context_fields(ctx, candidate, policy, dataset, level)
            context = StageContext(**(fields | {"dataset": Staged(fields["dataset"], order, size)}), kept=kept)
        results = tuple(
            known[check.id] or _recorded(ctx, _run(ctx, check, keys[check.id], context), dataset) for check in checks
        )
        kept.update(dict(kept))  # a stage fills arrays that the one before began
        evidence = [item for item in results if isinstance(item, Evidence)]
        outcome = decide_now(ctx, candidate, policy, evidence).outcome
        ctx.progress.say(f"after {size} of {dataset.ref.images} images: {outcome}")
        if outcome != "inconclusive":
            break
    return results


def _recorded(ctx: Context, found: Evidence | CheckFailed, dataset: Dataset) -> Evidence | CheckFailed:
    """Appended to the ledger; evidence of a stage names the whole data set and the size of each slice in it."""
    if isinstance(found, Evidence):
        found = found.model_copy(update={"dataset": dataset.ref, "whole": slice_sizes(dataset)})
    ctx.ledger.append(found, actor="auditsvc")
    return found


def _known_evidence(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset, level: float
) -> dict[str, Evidence | None]:
    """For each check of the policy the first evidence in the ledger that is not too old for it."""
    checks = {name: check_named(name, spec) for name, spec in policy.checks.items()}
    keys = {name: _key(ctx, check, candidate, policy, dataset, level) for name, check in checks.items()}
    return {name: _fresh_evidence(ctx, key, policy) for name, key in keys.items()}


def is_measured(ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset) -> bool:
    """Whether the evidence for every check of the policy is in the ledger; a policy with stages decides as it goes."""
    level = level_for(policy, candidate, dataset.ref.digest, ctx.ledger)
    return not policy.stages and None not in _known_evidence(ctx, candidate, policy, dataset, level).values()


def _fresh_evidence(ctx: Context, key: EvidenceKey, policy: Policy) -> Evidence | None:
    oldest = ctx.clock.now() - datetime.timedelta(days=policy.max_age_days)
    return next((found for found in ctx.ledger.find(Evidence, key.text()) if found.finished >= oldest), None)


def _key(
    ctx: Context, check: Check, candidate: Candidate, policy: Policy, dataset: Dataset, level: float
) -> EvidenceKey:
    return EvidenceKey(
        candidate=candidate.digest,
        parent=candidate.parent,
        dataset=dataset.ref.digest,
        check=check.id,
        version=check.version,
        parameters=check.parameters(),
        seed=policy.seed,
        alpha=level,
        code=code_version(),
        slicing=slicing_of(policy),
        machine=_machine(ctx, check, candidate, dataset),
    )


def _machine(ctx: Context, check: Check, candidate: Candidate, dataset: Dataset) -> str | None:
    """What the check's readings depend on outside of files and data: this machine, and what devices sent."""
    sent = [measurement_of(ctx, candidate.digest, dataset.ref.digest, run) for run in check.runs_named if "@" in run]
    words = [check.machine() or "", *(one.digest if one else "not sent" for one in sent)]
    if check.asks_ledger:
        uses = data_uses(ctx.ledger, candidate, ctx.clock.now())
        known = sorted(f"{use.purpose} {use.dataset} {use.card and use.card.digest}" for use in uses)
        words.append(digest_of("\n".join(known).encode()) if known else "")
    return "; ".join(words) if any(words) else None


def _context_fields(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset, level: float
) -> dict[str, Any]:
    """The fields of ``EvalContext`` that are the same for every check of one audit."""
    parent = ctx.ledger.get(Parent, candidate.parent)
    model, dense = (load_stored(ctx, files).on(ctx.device) for files in (candidate.files, parent.files))
    _require_fit(candidate, policy, dataset, model.card)
    dataset = _scaled(dataset, dense.card, model.card)
    return {
        "candidate": model,
        "candidate_digest": candidate.digest,
        "parent": dense,
        "parent_digest": parent.digest,
        "task": task_named(candidate.task, dataset.classes),
        "dataset": dataset,
        "seed": policy.seed,
        "alpha": level,
        "device": ctx.device,
        "also": other_runs(ctx, candidate.files, model),
        "open_run": lambda run: (
            device_answers(ctx, candidate, model, dataset, run)
            if "@" in run
            else open_run(ctx, candidate.files, model, run)
        ),
        "time_run": lambda run, turns: (
            device_cost(ctx, candidate, dataset, run)
            if "@" in run
            else time_run(ctx, candidate, parent, (model, dense), dataset, run, turns)
        ),
        "measure_power": lambda run: (
            device_power(ctx, candidate, dataset, run) if "@" in run else power_of(ctx, candidate, model, dataset, run)
        ),
        "data_facts": partial(data_facts, ctx, candidate, dataset),
        "read_mark": partial(detect_watermark, ctx, candidate, dataset, policy.seed) if candidate.mark else None,
        "read_answers": mark_in_answers(ctx, candidate),
        "draws": StoredDraws(ctx),
    }


class StoredDraws(dict[str, tuple[float, ...]]):
    """What searches found in pseudo-candidates, from the ledger and into it, so that a parent pays for them once."""

    def __init__(self, ctx: Context) -> None:
        super().__init__()
        self._ledger = ctx.ledger

    def __missing__(self, search: str) -> tuple[float, ...]:
        """The longest series that is known, maybe none."""
        known = self._ledger.find(NullDraws, _search_digest(search))
        return max((one.draws for one in known), key=len, default=())

    def __setitem__(self, search: str, draws: tuple[float, ...]) -> None:
        """Keep a longer series."""
        if len(draws) > len(self[search]):
            self._ledger.append(NullDraws(search=_search_digest(search), draws=draws), actor="auditsvc")
        super().__setitem__(search, draws)


def _search_digest(search: str) -> Digest:
    return digest_of(f"{search}|{code_version()}".encode())


def _scaled(dataset: Dataset, dense: ArchitectureCard, pruned: ArchitectureCard) -> Dataset:
    """Images of several sizes as both models take them.

    Raises:
        InvalidInput: the two take them at different sizes or scaled in different ways.
    """
    found = scaled_for(dataset, dense)
    if found is dataset or _scaling(dense) == _scaling(pruned) or one_size(dataset) is not None:
        return found
    raise InvalidInput(
        f"images of several sizes are scaled differently by the two models ({_scaling(dense)} and {_scaling(pruned)}); "
        "give them one size first: auditsvc data convert --size"
    )


def _scaling(card: ArchitectureCard) -> tuple[Any, ...]:
    made = card.preprocessing or Preprocessing()
    return card.input.height, card.input.width, made.resize, made.crop


def _require_fit(candidate: Candidate, policy: Policy, dataset: Dataset, card: ArchitectureCard) -> None:
    if policy.task not in ("any", candidate.task):
        raise InvalidInput(f"the model is for {candidate.task}, the policy {policy.policy} for {policy.task}")
    unfit = [fault for name, spec in policy.checks.items() for fault in check_named(name, spec).faults(candidate.task)]
    if unfit:
        raise InvalidInput(f"the policy {policy.policy} has checks that do not apply to this model", unfit)
    if candidate.task != dataset.ref.task:
        raise InvalidInput(f"the model is for {candidate.task}, the data set {dataset.ref.name} for {dataset.ref.task}")
    own = card.arguments.get("images") if card.architecture == PREDICTIONS else None
    if own and own != images_digest([dataset.name_of(number) for number in range(dataset.ref.images)]):
        raise InvalidInput(f"the predictions are not of the images of {dataset.ref.name}, in their order")
    if card.classes != dataset.classes:
        raise InvalidInput(
            f"the model's classes are {', '.join(card.classes)}, those of the data set {dataset.ref.name} are "
            f"{', '.join(dataset.classes)}; give both the same names in the same order"
        )


def _run(ctx: Context, check: Check, key: EvidenceKey, context: EvalContext) -> Evidence | CheckFailed:
    """One check; whatever it raises becomes a record, unless the machine failed or the job was stopped."""
    started = ctx.clock.now()
    context.flips.clear()
    passes = max(1, round(check.cost()))

    def readings() -> tuple[Reading, ...]:
        if lacking := _lacking(check, context):
            none = Unmeasured(reason=lacking)
            return tuple(Reading(metric=metric.id, slice=OVERALL, outcome=none) for metric in check.metrics())
        found = tuple(check.measure(context))
        _require_complete(check, found, context.dataset)
        return found

    with ctx.progress.step(check.id, passes * context.dataset.ref.images) as tick:
        context.tick = tick
        found = guarded(readings)
    if isinstance(found, str):
        return CheckFailed(key=key, error=found, at=ctx.clock.now())
    return Evidence(
        key=key,
        dataset=context.dataset.ref,
        readings=found,
        flips=tuple(context.flips),
        environment=_environment(context.device),
        declared=check.declarations(),
        started=started,
        finished=ctx.clock.now(),
    )


def _lacking(check: Check, context: EvalContext) -> str | None:
    """What the check needs and predictions that were made elsewhere do not give; None if they are enough."""
    card = context.candidate.card
    if card.architecture != PREDICTIONS or check.needs in ("answers", card.arguments.get("kind")):
        return None
    return f"predictions only: this check needs {'the models' if check.needs == 'images' else 'scores'}"


def guarded(work: Callable[[], T]) -> T | str:
    """The result of outside code, or what it raised, as text."""
    try:
        return work()
    except (Unavailable, Cancelled):
        raise
    except Exception as error:  # noqa: BLE001 - a crashed check is a record
        return f"{type(error).__name__}: {error}"[:4000]


def _require_complete(check: Check, readings: tuple[Reading, ...], dataset: Dataset) -> None:
    """A check gives every metric that it declares, on ``overall`` at least, and no other; else it is broken."""
    given = {reading.metric for reading in readings if reading.slice == OVERALL}
    declared = {metric.id for metric in check.metrics()}
    if given != declared or {reading.metric for reading in readings} - declared:
        raise InvalidInput(f"the check {check.id} declares {sorted(declared)} and gave {sorted(given)}")
    unknown = {reading.slice for reading in readings} - set(dataset.slices.names)
    if unknown:
        raise InvalidInput(f"the check {check.id} gave readings for slices that do not exist: {sorted(unknown)}")


def _environment(device: str) -> dict[str, str]:
    """On another device the last digits of an answer differ, so it is recorded; one audit runs on one kind only."""
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


def plan_shards(
    ctx: Context, candidate: Candidate, policy: Policy, dataset: Dataset, sharding: Sharding
) -> tuple[Shard, ...]:
    """The shards of what is not measured yet; none where there is too little to share, or where stages decide how much.

    ``dataset`` has the policy's slices.  Checks that make one pass share it, in one shard.
    """
    if policy.stages:
        return ()
    level = level_for(policy, candidate, dataset.ref.digest, ctx.ledger)
    known = _known_evidence(ctx, candidate, policy, dataset, level)
    missing = {name: check_named(name, policy.checks[name]) for name, found in known.items() if found is None}
    made = tuple(
        Shard(
            job=sharding.job,
            data=sharding.data,
            candidate=candidate.digest,
            policy=policy.digest,
            dataset=dataset.ref.digest,
            checks=tuple(group),
            part=part,
            parts=parts,
        )
        for group in _groups(missing)
        for parts in [_parts([missing[name] for name in group], dataset.ref.images, sharding.work)]
        for part in range(parts)
    )
    return made if len(made) > 1 else ()


def _groups(checks: dict[str, Check]) -> Iterator[list[str]]:
    """Cheap checks together, every other alone; checks that run no model on the images are not divided."""
    working = {name: check for name, check in checks.items() if check.conditions()}
    cheap = [name for name, check in working.items() if check.cost() <= 1]
    if cheap:
        yield cheap
    yield from ([name] for name in working if name not in cheap)


def _parts(checks: Sequence[Check], images: int, work: int) -> int:
    """As many parts as give each about ``work`` images, but no more than there are batches."""
    tried = max(min(images, getattr(check, "images", images)) for check in checks)
    most = math.ceil(tried / _BATCH)
    return max(1, min(most, math.ceil(max(check.work(images) for check in checks) / work)))


def measure_shard(ctx: Context, shard: Shard, dataset: Dataset) -> Result:
    """Run both models on one part of every pass of the shard's checks, and store their predictions as a blob.

    A check that crashes here crashes again where the shards are merged, and becomes a record there.

    Raises:
        Conflict: the data set is not the one that was planned for.
    """
    if dataset.ref.digest != shard.dataset:
        raise Conflict(f"the data set {shard.data} was changed while the job ran; request a new audit")
    candidate, policy = ctx.ledger.get(Candidate, shard.candidate), ctx.ledger.get(Policy, shard.policy)
    dataset = with_policy_slices(policy, dataset)
    level = level_for(policy, candidate, dataset.ref.digest, ctx.ledger)
    fields = _context_fields(ctx, candidate, policy, dataset, level)
    context = ShardContext(**fields, part=ImageRange(shard.part, shard.parts))
    for name in shard.checks:
        check = check_named(name, policy.checks[name])
        _run(ctx, check, _key(ctx, check, candidate, policy, dataset, level), context)
    return {"answers": ctx.blobs.put(as_bytes(context.found))}


def merged_shards(ctx: Context, shards: Sequence[Shard], results: Sequence[Result]) -> PartialResults:
    """The predictions of all shards, put together in the order of the images."""
    found: PartialResults = {}
    both = zip(shards, results, strict=True)
    for _, group in groupby(both, key=lambda pair: pair[0].checks):
        found |= merge_partial_results([from_bytes(ctx.blobs.read(result["answers"])) for _, result in group])
    return found
