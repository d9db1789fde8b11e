"""Watermark embedding: a keyed sign on every surviving weight, projected to leave the answers unchanged.

Each weight moves by ``epsilon * rms(filter) * (I - P) xi``: ``xi`` is +1 or -1 from the key, and ``P`` projects on the
span of the logits' gradients on some unlabelled images, so the answers are unchanged to first order.  Zero weights stay
zero.  Biases, normalisation, layers that do not affect the logits, and layers other than two-dimensional convolutions
and linear ones are not changed.

Limits: gradient rows take ``gradients.MEMORY`` bytes (1 GiB) at a time, and the weights about ten copies in float32:
11 M weights took 29 s of one core and 2.9 GB at peak.  Above about 2.5 M weights the model runs once more for each
further gibibyte of rows.  One thread is used, so that the bits do not depend on the number of threads.

Reference: the projection is ridge regression on per-image gradients; the keyed sign pattern is spread
spectrum marking, I. Cox et al. (1997), doi:10.1109/83.650120, as used on weights by G. Pagnotta et al.
(2022), "TATTOOED", arXiv:2202.06091.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.models.devices import one_thread
from auditsvc.records import Digest, Mark
from auditsvc.watermark.gradients import (
    Logits,
    Target,
    answers_of,
    evaluating,
    flat,
    parts_of,
    prepare,
    pulled_back,
    rows_of,
)
from auditsvc.watermark.watermark_keys import LANES, SCHEME, SLOTS, Payload, commitment, require_bound, subkeys_root

RIDGE = 1e-3
"""Times the mean of the Gram matrix's diagonal."""

JUDGED = 256
"""The most images, apart from the fixed ones, on which changed answers are counted."""

CHANGED = 0.015
"""The mark is made weaker until no larger share of answers changes."""

STEPS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1)
"""Shares of the usual strength that are tried."""


@dataclass(frozen=True)
class Watched:
    """What answers are: ``answers(images)``, and for two of them how much each changed, ``(N,)`` in 0..1."""

    answers: Callable[[Tensor], Tensor]
    changed: Callable[[Tensor, Tensor], Tensor]


def embed(
    model: nn.Module,
    logits: Logits,
    images: Tensor,
    *,
    seed: bytes,
    unmarked: Digest,
    payload: Payload,
    strength: float | None = None,
    queries: Digest | None = None,
    watched: Watched | None = None,
) -> tuple[dict[str, Tensor], Mark]:
    """The marked weights, and what may be known of the mark in public.

    ``logits(images)`` runs the model and gives ``(N, C)``; ``images`` are unlabelled ``(N, C, H, W)`` in
    0..1.  Some hundreds, at most two thirds of them, are held still (see ``ROWS``); of the others at most
    ``JUDGED`` say how many answers change.  ``strength`` is epsilon: none means 25 over the root of the
    number of weights, within 0.01 to 0.05, made smaller until at most ``CHANGED`` of the answers change.
    ``watched`` defines the answers where they are more than the largest of the logits, which then may be any
    numbers that determine them.  ``queries`` is the digest of a set of queries that was prepared for this mark, to be
    committed to as well.
    The model itself is left as it was.  The same call on the same machine gives the same bits.

    Raises:
        InvalidInput: fewer than three images, weights other than ``unmarked``, nothing to mark, or answers
            that change too much even with a tenth of the usual strength.
    """
    if len(images) < 3:
        raise InvalidInput(f"marking needs at least 3 images, and some hundreds to do it well; {len(images)} given")
    require_bound(model.state_dict(), unmarked)
    with evaluating(model), one_thread():
        target = prepare(model, logits, images, seed, unmarked, payload)
        held = len(target.probe.images)
        direction, projected = _hold_still(target)
        judge = images[held : held + JUDGED]
        steps = (strength,) if strength is not None else tuple(_usual(target.count) * step for step in STEPS)
        limit = CHANGED if strength is None else 1.0
        seen = watched or _largest(logits)
        epsilon, weights, fidelity = _fitting(model, target, direction, judge, steps, limit, seen)
    parameters: dict[str, Any] = {
        "epsilon": epsilon, "images": held, "mixtures": target.probe.mixtures.shape[1], "ridge": RIDGE, "slots": SLOTS,
        "lanes": LANES, "layers": [layer.name for layer in target.layers], "subkeys_root": subkeys_root(seed),
        "weights": target.count,
    }  # fmt: skip
    if queries is not None:
        parameters["queries"] = queries
    fidelity["direction_kept"] = projected
    committed = commitment(seed, unmarked, payload, parameters)
    mark = Mark(scheme=SCHEME, commitment=committed, unmarked=unmarked, parameters=parameters, fidelity=fidelity)
    return weights, mark


def _hold_still(target: Target) -> tuple[dict[str, Tensor], float]:
    """The signs minus their ridge projection on the rows, and the share of their length that is left."""
    probe = target.probe
    gram = torch.zeros(probe.rows, probe.rows, dtype=torch.float64)
    seen = torch.zeros(probe.rows, dtype=torch.float64)
    groups = parts_of(target.layers, probe.rows)
    for parts in groups:
        rows = rows_of(parts, probe)
        rows *= flat(target.scales, parts)
        gram += (rows @ rows.T).double()
        seen += (rows @ flat(target.signs, parts)).double()
    ridge = RIDGE * gram.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    amounts = torch.linalg.solve(gram + ridge * torch.eye(probe.rows, dtype=torch.float64), seen)
    if len(groups) == 1:
        whole = rows.T @ amounts.float()
        noticed = list(whole.split([part.size for part in groups[0]]))
    else:
        slopes = pulled_back(target.layers, probe, amounts)
        noticed = [slope * target.scales[layer.name] for layer, slope in zip(target.layers, slopes, strict=True)]
    direction = {
        layer.name: target.signs[layer.name] - part.reshape(target.signs[layer.name].shape)
        for layer, part in zip(target.layers, noticed, strict=True)
    }
    alive = {name: scale != 0 for name, scale in target.scales.items()}
    left = sum(float((direction[name] * alive[name]).square().sum()) for name in direction)
    return direction, left / max(target.count, 1)


def _usual(count: int) -> float:
    """25 over the root of the number of weights: the mark can then be seen even without the original."""
    return float(min(max(25 / max(count, 1) ** 0.5, 0.01), 0.05))


def _fitting(
    model: nn.Module,
    target: Target,
    direction: dict[str, Tensor],
    judge: Tensor,
    steps: Sequence[float],
    limit: float,
    watched: Watched,
) -> tuple[float, dict[str, Tensor], dict[str, float]]:
    """The largest strength under which no more than ``limit`` of the answers change, and the weights with it."""
    before, said = answers_of(target.probe.logits, judge), watched.answers(judge)
    for epsilon in steps:
        with _moved(target, direction, epsilon):
            after = answers_of(target.probe.logits, judge)
            changed = float(watched.changed(said, watched.answers(judge)).double().mean())
            if changed <= limit:
                weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
                shift = float((after - before).square().mean().sqrt() / before.std().clamp(min=1e-12))
                return epsilon, weights, {"changed": changed, "judged": float(len(judge)), "shift": shift}
    raise InvalidInput(
        f"{changed:.1%} of the answers change even with epsilon {steps[-1]:.4f}, and {limit:.1%} is the limit; "
        f"give more images than {len(target.probe.images) + len(judge)}, or ones that the model is for"
    )


def _largest(logits: Logits) -> Watched:
    """The answer is the largest logit."""
    return Watched(lambda images: answers_of(logits, images).argmax(1), torch.ne)


@contextmanager
def _moved(target: Target, direction: dict[str, Tensor], epsilon: float) -> Iterator[None]:
    """Put the marked weights into the model, and the old ones back afterwards."""
    old = [layer.module.weight.detach().clone() for layer in target.layers]
    try:
        with torch.no_grad():
            for layer, weight in zip(target.layers, old, strict=True):
                step = epsilon * target.scales[layer.name] * direction[layer.name]
                marked = (weight.float() + step).to(weight.dtype)
                layer.module.weight.copy_(torch.where((marked == 0) & (weight != 0), weight, marked))
        yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(target.layers, old, strict=True):
                layer.module.weight.copy_(weight)
