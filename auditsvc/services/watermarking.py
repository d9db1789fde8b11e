"""Embed a candidate's watermark, store what detects it again, and detect it.

The unmarked weights and the queries are stored as encrypted blobs, because with them the watermark can be removed; the
encryption key is derived from the master secret, which is in no database.  Only the commitment is public: it is part of
the signed provenance before any dispute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from auditsvc import pruning, watermark
from auditsvc.datasets import Dataset
from auditsvc.datasets.scaling import scaled_for
from auditsvc.errors import InvalidInput, NotFound
from auditsvc.evaluation import CLEAN, EvalContext, Outputs, WatermarkReading
from auditsvc.evaluation.intervals import wilson
from auditsvc.evaluation.metrics.mmd import image_features
from auditsvc.evaluation.sharding import PartialResults
from auditsvc.models import Model, assemble
from auditsvc.ports import Context
from auditsvc.records import Candidate, Mark, Parent, WatermarkKeyRecord
from auditsvc.services.answer_cache import answer_cache
from auditsvc.services.model_store import runtimes_of, stored_tensors
from auditsvc.tasks import task_named

QUERY_WORK = 1e12
"""Multiplications that preparing queries may take: a thousand queries for a million weights, fewer for more."""

FEWEST_QUERIES, MOST_QUERIES = 30, 1000


@dataclass(frozen=True)
class WatermarkOptions:
    """The recipient of a watermark, and the images of its queries.

    Without a ``pool`` the last third of the calibration images is taken, which the mark never holds still.  Some
    hundreds are needed where a suspect returns labels only.  ``mixup`` makes a thousand mixtures of pairs of the pool
    instead: stronger, slower (minutes), and easy to refuse.
    """

    recipient: str = ""
    pool: Dataset | None = None
    mixup: bool = False


def embed_watermark(
    ctx: Context, parent: Parent, pruned: Model, calibration: Dataset, marking: WatermarkOptions | None = None
) -> tuple[dict[str, Tensor], Mark]:
    """The marked float weights and the public mark; what finds it is kept first.

    Raises:
        InvalidInput: too few calibration images, or a model that can't be marked.
    """
    marking = marking or WatermarkOptions()
    master = ctx.keys.watermark_secret()
    unmarked = watermark.weights_digest(pruned.weights())
    seed = watermark.derive_seed(master, unmarked, parent.model, marking.recipient)
    payload = payload_of(unmarked, marking.recipient)
    images = _images(scaled_for(calibration, pruned.card))

    def logits(some: Tensor) -> Tensor:
        return image_features(pruned(some))

    target = watermark.prepare(pruned.module, logits, images, seed, unmarked, payload)
    bound: dict[str, Any] = {"seed": seed, "unmarked": unmarked, "payload": payload, "target": target}
    digest, locked = _queries(pruned, images, master, marking, bound)
    made, public = watermark.embed(pruned.module, logits, images, queries=digest, watched=_watched(pruned), **bound)
    ctx.progress.say(_cost(public))
    original = watermark.Unmarked(pruned.weights(), watermark.trace_channels(pruned.module, images[:2]))
    copy = WatermarkKeyRecord(
        commitment=public.commitment,
        unmarked=unmarked,
        release=parent.model,
        recipient=marking.recipient,
        release_number=payload.release,
        recipient_number=payload.recipient,
        original=ctx.blobs.put(watermark.encrypt_unmarked(master, unmarked, original)),
        queries=None if locked is None else ctx.blobs.put(locked),
    )
    if find_watermark_key(ctx, public) is None:
        ctx.ledger.append(copy, actor="auditsvc")
    return made, public


def _cost(mark: Mark) -> str:
    """The answers that the mark changes, with the upper end of their 95 % interval, and z after the stated attacks."""
    seen = mark.fidelity
    upper = float(wilson(seen["changed"] * seen["judged"], seen["judged"], 0.05).high)
    found = ", ".join(f"{name.removeprefix('z ')} {z:.0f}" for name, z in sorted(seen.items()) if name.startswith("z "))
    return (
        f"watermark of strength {mark.parameters['epsilon']:.4f}: {seen['changed']:.2%} of the answers to "
        f"{seen['judged']:.0f} images change (at most {upper:.2%}); found with z of {found} (7.2 is p = 1e-12)"
    )


def _queries(
    pruned: Model, images: Tensor, master: bytes, marking: WatermarkOptions, bound: dict[str, Any]
) -> tuple[str | None, bytes | None]:
    """The digest of the queries and the queries, encrypted; none where an answer is more than one class."""
    if pruned.card.task != "classification":
        return None, None
    weights = sum(tensor.numel() for tensor in pruned.weights().values())
    queries = watermark.prepare_queries(
        pruned.module,
        pruned,
        _images(scaled_for(marking.pool, pruned.card)) if marking.pool else images[-(-2 * len(images) // 3) :],
        count=min(MOST_QUERIES, max(FEWEST_QUERIES, int((QUERY_WORK / weights) ** 0.5))),
        halfway=marking.mixup,
        **bound,
    )
    return watermark.encrypt_queries(master, queries)


def _watched(model: Model) -> watermark.Watched | None:
    """How a task's answers change: by what is lost of the score if those before are the targets."""
    if model.card.task == "classification":
        return None
    task = task_named(model.card.task, model.card.classes)

    def changed(before: Tensor, after: Tensor) -> Tensor:
        return 1 - task.scores(after, task.as_targets(before))

    return watermark.Watched(lambda images: torch.cat([model(part) for part in torch.split(images, 32)]), changed)


def payload_of(unmarked: str, recipient: str) -> watermark.Payload:
    """The numbers in the message are taken from digests, so that they need no counter; the key distinguishes copies."""
    number = int.from_bytes(hashlib.sha256(recipient.encode()).digest()[:2], "big") if recipient else 0
    return watermark.Payload(release=int(unmarked.removeprefix("sha256:")[:8], 16), recipient=number)


def find_watermark_key(ctx: Context, mark: Mark | None) -> WatermarkKeyRecord | None:
    """What finds this mark again, if it is all here; None for a mark of another installation, or none."""
    known = ctx.ledger.find(WatermarkKeyRecord, mark.commitment) if mark else ()
    there = [
        copy for copy in known
        if ctx.blobs.has(copy.original) and (copy.queries is None or ctx.blobs.has(copy.queries))
    ]  # fmt: skip
    return there[-1] if there else None


def is_marked_for(ctx: Context, candidate: Candidate, marking: WatermarkOptions | None) -> bool:
    """Whether this candidate is the copy that is asked for, and what finds its mark is kept here."""
    copy = find_watermark_key(ctx, candidate.mark)
    return copy is not None and copy.recipient == (marking or WatermarkOptions()).recipient


def seed_of(ctx: Context, copy: WatermarkKeyRecord) -> bytes:
    """The seed of this copy's mark."""
    return watermark.derive_seed(ctx.keys.watermark_secret(), copy.unmarked, copy.release, copy.recipient)


def original_of(ctx: Context, copy: WatermarkKeyRecord) -> watermark.Unmarked:
    """The unmarked weights behind a copy.

    Raises:
        InvalidInput: they were kept under another master secret, or were changed.
        NotFound: they are not here.
    """
    return watermark.decrypt_unmarked(ctx.keys.watermark_secret(), copy.unmarked, ctx.blobs.read(copy.original))


def queries_of(ctx: Context, copy: WatermarkKeyRecord, mark: Mark) -> watermark.Queries:
    """The queries that the mark of a copy committed to.

    Raises:
        NotFound: none were made, because the model's answers are more than one class; or they are not here.
        InvalidInput: as ``original_of``.
    """
    if copy.queries is None:
        raise NotFound(f"{copy.release} answers with more than one class, so its mark can't be found by answers alone")
    committed = mark.parameters.get("queries", "")
    return watermark.decrypt_queries(ctx.keys.watermark_secret(), committed, ctx.blobs.read(copy.queries))


def detect_watermark(
    ctx: Context, candidate: Candidate, dataset: Dataset, seed: int = 0, answers: PartialResults | None = None
) -> WatermarkReading:
    """Detect the candidate's mark with what was kept of it, and count the answers that it changed.

    ``answers`` are those that are known; without them, those that the store keeps.

    The answers are compared with those of the unmarked weights in the number format of the candidate's, so that
    what the format costs is not put down to the mark.

    Raises:
        InvalidInput: the candidate was not marked here, or what was kept can't be opened.
    """
    copy = find_watermark_key(ctx, candidate.mark)
    if copy is None or candidate.mark is None:
        raise InvalidInput("the watermark key of this candidate is not in this store, so it can't be detected")
    original, secret = original_of(ctx, copy), seed_of(ctx, copy)
    payload = watermark.Payload(copy.release_number, copy.recipient_number)
    if not watermark.verify_commitment(candidate.mark, secret, payload):
        raise InvalidInput("the candidate's mark is not the one that was committed to")
    saved, card = stored_tensors(ctx, candidate.files)
    found = watermark.detect(
        pruning.in_float(saved),
        original.weights,
        seed=secret,
        unmarked=copy.unmarked,
        payload=payload,
        wiring=original.wiring,
    )
    asked = EvalContext(
        candidate=assemble(saved, card),
        # where other files answer too, the audit's answers are the worst of all: the weights are asked again
        candidate_digest=f"{candidate.digest}#weights" if runtimes_of(candidate.files) else candidate.digest,
        parent=assemble(pruning.in_format_of(original.weights, saved), card),
        parent_digest=f"{candidate.digest}#unmarked",
        task=task_named(card.task, card.classes),
        dataset=dataset,
        seed=seed,
        alpha=0.05,
        cache=answer_cache(ctx) if answers is None else answers,
    )
    pair = asked.pair(CLEAN)
    return WatermarkReading(
        log10_p=found.log10_p,
        z=found.z,
        bits_matched=found.bits_matched,
        bits_total=found.bits_total,
        flipped=pair.candidate["answer"] != pair.parent["answer"],
        change=pair.change,
        clusters=dataset.slices.clusters,
    )


def mark_in_answers(ctx: Context, candidate: Candidate) -> Callable[[Outputs], tuple[float, int]] | None:
    """What tests another model's first answers for the candidate's mark; None where no queries are kept."""
    copy = find_watermark_key(ctx, candidate.mark)
    if copy is None or candidate.mark is None or copy.queries is None:
        return None
    mark = candidate.mark

    def test(outputs: Outputs) -> tuple[float, int]:
        queries = queries_of(ctx, copy, mark)
        found = queries.test(outputs(queries.images).argmax(1))
        return found.log10_p, found.queries

    return test


def _images(dataset: Dataset) -> Tensor:
    return torch.cat([batch.images for batch in dataset.batches(64)])
