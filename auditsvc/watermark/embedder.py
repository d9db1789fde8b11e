"""Watermark embedding: a keyed sign on every surviving weight, projected to leave the answers unchanged.

Each weight moves by ``epsilon * share * rms(filter) * (I - P) xi``: ``xi`` is +1 or -1 from the key, and ``P`` projects
on the span of the logits' gradients on some unlabelled images, so the answers are unchanged to first order.  A filter's
``share`` is larger the less the answers depend on it; the mean is 1.  Zero weights stay
zero, and marked weights are multiples of a power of two that is small against the mark, so that they compress better
than weights with all their digits.  Biases, normalisation, layers that do not affect the logits, and layers other than
two-dimensional convolutions and linear ones are not changed.

The strength ``epsilon`` is the smallest with which the mark is found after each of ``ATTACKS``; it is smaller still
where the model is so brittle that more than ``AIM`` of the answers change, but not smaller than ``FORMATS`` need.

Limits: gradient rows take ``gradients.MEMORY`` bytes (1 GiB) at a time, and the weights about ten copies in float32:
11 M weights took 29 s of one core and 2.9 GB at peak.  Above about 2.5 M weights the model runs once more for each
further gibibyte of rows.  One thread is used, so that the bits do not depend on the number of threads.

Reference: the projection is ridge regression on per-image gradients; the keyed sign pattern is spread
spectrum marking, I. Cox et al. (1997), doi:10.1109/83.650120, as used on weights by G. Pagnotta et al.
(2022), "TATTOOED", arXiv:2202.06091.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import beta
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.models.devices import one_thread
from auditsvc.records import Digest, Mark
from auditsvc.watermark.detector import compare
from auditsvc.watermark.gradients import (
    Logits,
    Target,
    answers_of,
    evaluating,
    filter_scales,
    flat,
    parts_of,
    prepare,
    pulled_back,
    rows_of,
)
from auditsvc.watermark.watermark_keys import (
    LANES,
    SCHEME,
    SLOTS,
    Payload,
    all_subkeys,
    commitment,
    require_bound,
    subkeys_root,
)

RIDGE = 1e-3
"""Times the mean of the Gram matrix's diagonal."""

JUDGED = 1000
"""The most images, apart from the fixed ones, on which changed answers are counted."""

CHANGED, AIM = 0.015, 0.001
"""The largest share of changed answers with which a mark is made at all, and the share above which it is weakened."""

CONFIDENCE = 0.95
"""How certain it has to be that more than ``CHANGED`` change before a mark is refused: of 66 images one is 1.5 %."""

FOUND, NEAR = 9.2, 1.1
"""The z that the mark has to have after each attack (p is 1e-12 at 7.2, and chance moves z by one), and how near."""

WEAKENING, TRIALS = 0.7, 20

GRID = 8
"""The mark is at least this many times the step between two values that a marked weight can have."""


def _rounded(weight: Tensor, _scale: Tensor) -> Tensor:
    """Four bits: fifteen evenly spaced values in each output filter."""
    step = weight.abs().amax(tuple(range(1, weight.dim())), keepdim=True).clamp(min=1e-30) / 7
    return (weight / step).round() * step


def _halved(weight: Tensor, _scale: Tensor) -> Tensor:
    """The smaller half of the weights set to zero."""
    sizes = weight[weight != 0].abs()
    return weight * (weight.abs() > sizes.median()) if sizes.numel() else weight


def _shaken(weight: Tensor, scale: Tensor) -> Tensor:
    """Each weight moved by 0.3 of its filter's size, as much as an epoch of fine-tuning at a usual rate moves it."""
    noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel()))
    return weight + 0.3 * scale * noise


ATTACKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "4-bit": _rounded,
    "half-pruned": _halved,
    "fine-tuned": _shaken,
}
"""What the mark is made to survive: functions of a layer's marked weights and the size of each filter."""

FORMATS = ("4-bit",)


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
    target: Target | None = None,
) -> tuple[dict[str, Tensor], Mark]:
    """The marked weights, and what may be known of the mark in public.

    ``logits(images)`` runs the model and gives ``(N, C)``; ``images`` are unlabelled ``(N, C, H, W)`` in
    0..1.  Some hundreds, at most two thirds of them, are held still (see ``ROWS``); of the others at most
    ``JUDGED`` say how many answers change.  ``strength`` is epsilon: none means as small as the module says, at most
    25 over the root of the number of weights, within 0.01 to 0.05.  The mark's ``fidelity`` has the share of changed
    answers, the images it was counted on, and z after each attack.
    ``watched`` defines the answers where they are more than the largest of the logits, which then may be any
    numbers that determine them.  ``queries`` is the digest of a set of queries that was prepared for this mark, to be
    committed to as well.  ``target`` is what ``prepare`` gave for the same arguments, if it was called before.
    The model itself is left as it was.  The same call on the same machine gives the same bits.

    Raises:
        InvalidInput: fewer than three images, weights other than ``unmarked``, nothing to mark, or answers
            that change too much even with the weakest mark.
    """
    require_bound(model.state_dict(), unmarked)
    with evaluating(model), one_thread():
        target = target or prepare(model, logits, images, seed, unmarked, payload)
        held = len(target.probe.images)
        direction, projected = _hold_still(target)
        judge = images[held : held + JUDGED]
        finder = _Finder(target, direction, all_subkeys(seed), unmarked, payload)
        steps = (strength,) if strength is not None else _strengths(finder, _usual(target.count))
        limit = CHANGED if strength is None else 1.0
        seen = watched or _largest(logits)
        epsilon, weights, fidelity = _fitting(model, target, direction, judge, steps, limit, seen)
        fidelity |= {f"z {name}": z for name, z in finder.after(epsilon).items()}
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


@dataclass(frozen=True)
class _Finder:
    """Reads the mark that ``epsilon`` would make, after attacks."""

    target: Target
    direction: dict[str, Tensor]
    subkeys: dict[int, bytes]
    unmarked: Digest
    payload: Payload

    def after(self, epsilon: float, names: Sequence[str] = ("", *ATTACKS)) -> dict[str, float]:
        """z after each attack; the empty name is none."""
        layers = self.target.layers
        original = {layer.name: layer.module.weight.detach().float() for layer in layers}
        with _moved(self.target, self.direction, epsilon):
            marked = {layer.name: layer.module.weight.detach().float().clone() for layer in layers}
        result = {}
        for name in names:
            suspect = {
                layer: ATTACKS[name](weight, filter_scales(original[layer])) if name else weight
                for layer, weight in marked.items()
            }
            comparison = compare(suspect, original, None)
            result[name or "unchanged"] = comparison.judge(self.subkeys, self.unmarked, self.payload).z
        return result


def _strengths(finder: _Finder, most: float) -> tuple[float, ...]:
    """Strengths to try: the smallest that survives every attack, then weaker ones down to what the formats need.

    An attack adds noise that does not depend on the mark, so z falls about in proportion to a small strength.
    """

    def needed(names: Sequence[str]) -> float:
        epsilon = most
        for _ in range(TRIALS):
            worst = min(finder.after(epsilon, names).values())
            if FOUND <= worst <= NEAR * FOUND or (epsilon == most and worst < FOUND):
                break
            epsilon = min(epsilon * math.sqrt(NEAR) * FOUND / max(worst, 1.0), most)
        return epsilon

    everything, least = needed(tuple(ATTACKS)), needed(FORMATS)
    between = [everything * WEAKENING**step for step in range(TRIALS)]
    return (everything, *(epsilon for epsilon in between[1:] if epsilon > least), min(everything, least))


def _usual(count: int) -> float:
    """The largest strength: 25 over the root of the number of weights, which shows even without the original."""
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
    """The first strength with which no more than ``AIM`` of the answers change, else the last, and its weights."""
    before, said = answers_of(target.probe.logits, judge), watched.answers(judge)
    for epsilon in steps:
        with _moved(target, direction, epsilon):
            after = answers_of(target.probe.logits, judge)
            changed = float(watched.changed(said, watched.answers(judge)).double().mean())
            if changed <= min(AIM, limit) or (epsilon == steps[-1] and _at_least(changed, len(judge)) <= limit):
                weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
                shift = float((after - before).square().mean().sqrt() / before.std().clamp(min=1e-12))
                return epsilon, weights, {"changed": changed, "judged": float(len(judge)), "shift": shift}
    raise InvalidInput(
        f"{changed:.1%} of {len(judge)} answers change even with epsilon {steps[-1]:.4f} (at least "
        f"{_at_least(changed, len(judge)):.1%} with {CONFIDENCE:.0%} confidence), and {limit:.1%} is the limit; "
        "use images that the model is for"
    )


def _at_least(share: float, count: int) -> float:
    """The lower end of a share of ``count`` answers: Clopper and Pearson, one-sided (doi:10.1093/biomet/26.4.404)."""
    changed = math.floor(share * count + 1e-6)
    return float(beta.ppf(1 - CONFIDENCE, changed, count - changed + 1)) if changed else 0.0


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
                grid = torch.exp2((epsilon * target.scales[layer.name] / GRID).clamp(min=1e-30).log2().floor())
                marked = (((weight.float() + step) / grid).round() * grid).to(weight.dtype)
                layer.module.weight.copy_(torch.where((marked == 0) | (weight == 0), weight, marked))
        yield
    finally:
        with torch.no_grad():
            for layer, weight in zip(target.layers, old, strict=True):
                layer.module.weight.copy_(weight)
