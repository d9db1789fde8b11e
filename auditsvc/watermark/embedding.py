"""Mark a network: a keyed sign on every surviving weight, minus whatever the answers would notice.

Each weight moves by ``epsilon * rms(filter) * (I - P) xi``: ``xi`` is +1 or -1 from the key, and ``P``
takes out the part that lies in the span of the logits' gradients on some unlabelled images.  The answers
stay where they are to first order; no labels and no training are needed.  Weights that are zero stay
zero, so a pruned network stays as sparse as it was.

Biases, normalisation, layers that the logits don't depend on, and layers other than two-dimensional
convolutions and linear ones are left alone.

Limits: rows of gradients are held ``gradients.MEMORY`` bytes (1 GiB) at a time; the weights are needed
about six times over in float32, so 25 M weights stay under 2 GiB.  Above some 2.5 M weights the model is
run once more for each further gibibyte of rows.  One thread is used, whatever torch is set to: the bits
then don't depend on it, and on busy cores two threads that wait for each other were ten times slower.

Reference: the projection is ridge regression on per-image gradients; the keyed sign pattern is spread
spectrum marking, I. Cox et al. (1997), doi:10.1109/83.650120, as used on weights by G. Pagnotta et al.
(2022), "TATTOOED", arXiv:2202.06091.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from auditsvc.errors import InvalidInput
from auditsvc.records import Digest, Mark
from auditsvc.watermark.gradients import (
    Layer,
    Logits,
    Part,
    Probe,
    layers_of,
    parts_of,
    pulled_back,
    reached,
    rows_of,
)
from auditsvc.watermark.keys import LANES, SCHEME, SLOTS, Payload, all_subkeys, carrier, commitment, require_bound
from auditsvc.watermark.merkle import subkeys_root

ROWS = (100, 800)
"""Fewest and most rows: answers of images that are held still."""

ROOM = 45_000_000
"""Rows times weights that are affordable: some 5 s on a busy core.  Between the two, rows = ROOM / weights."""

MIXTURES = 2
"""Random mixtures of logits for each image, each a row; two classes have one."""

RIDGE = 1e-3
"""Times the mean of the Gram matrix's diagonal."""

JUDGED = 256
"""At most so many images, other than those held still, say how many answers changed."""

CHANGED = 0.015
"""The mark is made weaker until no larger share of answers changes."""

STEPS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.15, 0.1)
"""Shares of the usual strength that are tried."""


def embed(
    model: nn.Module,
    logits: Logits,
    images: Tensor,
    *,
    seed: bytes,
    unmarked: Digest,
    payload: Payload,
    strength: float | None = None,
) -> tuple[dict[str, Tensor], Mark]:
    """The marked weights, and what may be known of the mark in public.

    ``logits(images)`` runs the model and gives ``(N, C)``; ``images`` are unlabelled ``(N, C, H, W)`` in
    0..1.  Some hundreds, at most two thirds of them, are held still (see ``ROWS``); of the others at most
    ``JUDGED`` say how many answers change.  ``strength`` is epsilon: none means 25 over the root of the
    number of weights, within 0.01 to 0.05, made smaller until at most ``CHANGED`` of the answers change.
    The model itself is left as it was.  The same call on the same machine gives the same bits.

    Raises:
        InvalidInput: fewer than three images, weights other than ``unmarked``, nothing to mark, or answers
            that change too much even with a tenth of the usual strength.
    """
    if len(images) < 3:
        raise InvalidInput(f"marking needs at least 3 images, and some hundreds to do it well; {len(images)} given")
    require_bound(model.state_dict(), unmarked)
    with _evaluating(model), _one_thread():
        target = _prepare(model, logits, images, seed, unmarked, payload)
        held = len(target.probe.images)
        direction, projected = _hold_still(target)
        judge = images[held : held + JUDGED]
        steps = (strength,) if strength is not None else tuple(_usual(target.count) * step for step in STEPS)
        limit = CHANGED if strength is None else 1.0
        epsilon, weights, fidelity = _fitting(model, target, direction, judge, steps, limit)
    parameters = {
        "epsilon": epsilon, "images": held, "mixtures": target.probe.mixtures.shape[1], "ridge": RIDGE, "slots": SLOTS,
        "lanes": LANES, "layers": [layer.name for layer in target.layers], "subkeys_root": subkeys_root(seed),
        "weights": target.count,
    }  # fmt: skip
    fidelity["direction_kept"] = projected
    committed = commitment(seed, unmarked, payload, parameters)
    mark = Mark(scheme=SCHEME, commitment=committed, unmarked=unmarked, parameters=parameters, fidelity=fidelity)
    return weights, mark


@dataclass(frozen=True)
class _Target:
    """What is marked: layers, the scale of each weight (0 where it stays), the signs, the images."""

    layers: tuple[Layer, ...]
    scales: dict[str, Tensor]
    signs: dict[str, Tensor]
    probe: Probe

    @property
    def count(self) -> int:
        """Weights that carry the mark."""
        return sum(int(torch.count_nonzero(scale)) for scale in self.scales.values())


def _prepare(
    model: nn.Module, logits: Logits, images: Tensor, seed: bytes, unmarked: Digest, payload: Payload
) -> _Target:
    with torch.no_grad():
        classes = logits(images[:1]).shape[1]
    layers = reached(layers_of(model), logits, images[:1])
    if not layers:
        raise InvalidInput("the logits depend on no convolution or linear layer, so there is nothing to mark")
    scales = {layer.name: filter_scales(layer.module.weight.detach()) for layer in layers}
    count = sum(int(torch.count_nonzero(scale)) for scale in scales.values())
    mixtures = min(MIXTURES, max(classes - 1, 1))
    rows = min(max(ROOM // max(count, 1), ROWS[0]), ROWS[1])
    held = min(max(rows // mixtures, 1), -(-2 * len(images) // 3))
    probe = Probe(logits, images[:held], _mixtures(held, mixtures, classes))
    subkeys = all_subkeys(seed)
    signs = {}
    for layer in layers:
        weight = layer.module.weight
        flat = carrier(subkeys, unmarked, layer.name, weight.numel()).carrying(payload)
        signs[layer.name] = torch.from_numpy(flat).reshape(weight.shape)
    return _Target(layers, scales, signs, probe)


def filter_scales(weight: Tensor) -> Tensor:
    """For each weight the root mean square of its output filter's surviving weights, 0 where the weight is 0."""
    full = weight.float()
    alive = full != 0
    other = tuple(range(1, full.dim()))
    rms = (full.square().sum(other, keepdim=True) / alive.sum(other, keepdim=True).clamp(min=1)).sqrt()
    return rms * alive


def _mixtures(images: int, count: int, classes: int) -> Tensor:
    """``(N, R, C)``: mixtures of centred logits, +1 or -1 each; the same for everybody, as they are no secret."""
    bits = np.random.Generator(np.random.Philox(0)).integers(0, 2, (images, count, classes))
    mixtures = torch.from_numpy(1.0 - 2.0 * bits).float()
    if classes == 2:
        mixtures = torch.tensor([1.0, -1.0]).expand(images, 1, 2)
    return mixtures - mixtures.mean(2, keepdim=True) if classes > 1 else torch.ones(images, 1, 1)


def _hold_still(target: _Target) -> tuple[dict[str, Tensor], float]:
    """The signs minus their ridge projection on the rows, and the share of their length that is left."""
    probe = target.probe
    gram = torch.zeros(probe.rows, probe.rows, dtype=torch.float64)
    seen = torch.zeros(probe.rows, dtype=torch.float64)
    groups = parts_of(target.layers, probe.rows)
    for parts in groups:
        rows = rows_of(parts, probe)
        rows *= _flat(target.scales, parts)
        gram += (rows @ rows.T).double()
        seen += (rows @ _flat(target.signs, parts)).double()
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


def _flat(values: dict[str, Tensor], parts: Sequence[Part]) -> Tensor:
    return torch.cat([values[part.layer.name][part.start : part.stop].reshape(-1) for part in parts])


def _usual(count: int) -> float:
    """25 over the root of the number of weights: the mark can then be seen even without the original."""
    return float(min(max(25 / max(count, 1) ** 0.5, 0.01), 0.05))


def _fitting(
    model: nn.Module, target: _Target, direction: dict[str, Tensor], judge: Tensor, steps: Sequence[float], limit: float
) -> tuple[float, dict[str, Tensor], dict[str, float]]:
    """The largest strength under which no more than ``limit`` of the answers change, and the weights with it."""
    before = _answers(target.probe.logits, judge)
    for epsilon in steps:
        with _moved(target, direction, epsilon):
            after = _answers(target.probe.logits, judge)
            changed = float((before.argmax(1) != after.argmax(1)).double().mean())
            if changed <= limit:
                weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
                shift = float((after - before).square().mean().sqrt() / before.std().clamp(min=1e-12))
                return epsilon, weights, {"changed": changed, "judged": float(len(judge)), "shift": shift}
    raise InvalidInput(
        f"{changed:.1%} of the answers change even with epsilon {steps[-1]:.4f}, and {limit:.1%} is the limit; "
        f"give more images than {len(target.probe.images) + len(judge)}, or ones that the model is for"
    )


def _answers(logits: Logits, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([logits(batch) for _, batch, _ in Probe(logits, images, images[:, :0]).batches()]).float()


@contextmanager
def _moved(target: _Target, direction: dict[str, Tensor], epsilon: float) -> Iterator[None]:
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


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, and gradients allowed on the weights; both as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    wanted = [(weight, weight.requires_grad) for weight in model.parameters()]
    model.eval()
    try:
        for weight, _ in wanted:
            weight.requires_grad_(True)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for weight, flag in wanted:
            weight.requires_grad_(flag)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
