"""Trigger inversion: one change of all images that moves a candidate to a class while its parent keeps its answers.

For every class at once a mask and a pattern are searched by gradient descent on

    CE(candidate(x'), class) + CE(parent(x'), parent(x)) + w * share of the image,    x' = (1 - mask) x + mask * pattern

``w`` grows while the change works and shrinks while it does not.  After a third of the steps only the quarter of the
classes with the smallest loss is searched on.  Without a parent the second term is absent and every class is searched
to the end, which is the search of Neural Cleanse in one model.  With an ``opacity`` the mask is that number everywhere,
so that a pattern is laid over the whole image.

Reference: B. Wang et al. (2019), "Neural Cleanse", doi:10.1109/SP.2019.00031 (mask, pattern, weight); Y. Tian et al.
(2021), "Stealthy Backdoors as Compression Artifacts", arXiv:2104.15129 (what the second term looks for).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional

from auditsvc.evaluation.attacks.target import Outputs
from auditsvc.models import Model
from auditsvc.models.model import decoded

CHUNK, SURVIVING = 64, 4
"""Images in one pass; one class in so many, and two at least, are searched to the end."""
STARTS, ASCENT = 2, 60
"""Images of noise for each class that the largest margin is searched from, and steps."""


@dataclass(frozen=True)
class Trigger:
    """One change for each of ``K`` classes: ``masks`` ``(K, 1, H, W)`` and ``patterns`` ``(K, C, H, W)``, in 0..1;
    ``aims`` ``(K,)`` are the numbers of the classes."""

    masks: Tensor
    patterns: Tensor
    aims: Tensor

    def on(self, images: Tensor, place: int) -> Tensor:
        """``(N, C, H, W)``: the images with the change for one class."""
        mask = self.masks[place]
        return (1 - mask) * images + mask * self.patterns[place]

    def cut(self, pixels: int) -> Trigger:
        """The same with at most this many pixels of each mask, the strongest."""
        order = self.masks.flatten(1).argsort(dim=1, descending=True, stable=True)[:, :pixels]
        kept = torch.zeros_like(self.masks.flatten(1)).scatter_(1, order, 1.0).view_as(self.masks)
        return replace(self, masks=self.masks * kept)


@dataclass(frozen=True)
class TriggerSearch:
    """The search: ``steps`` of Adam, each on ``batch`` images; ``opacity`` fixes the mask."""

    steps: int = 50
    batch: int = 8
    opacity: float | None = None
    rate: float = 0.2
    aim: float = 0.9
    """The share of a step's images from which on the mask is made smaller instead of stronger."""

    def __call__(self, candidate: Outputs, parent: Outputs | None, images: Tensor, classes: int, seed: int) -> Trigger:
        """A change for each class that was searched to the end, found on ``images`` ``(N, C, H, W)``."""
        draw = torch.Generator().manual_seed(seed)
        seen = _Seen(candidate, parent, images, answers(parent or candidate, images))
        first = [torch.randn((classes, size, *images.shape[2:]), generator=draw) for size in (1, images.shape[1])]
        mask, pattern = (tensor.to(images.device) for tensor in first)
        found, aims = (0.5 * mask - 2, pattern), torch.arange(classes, device=images.device)
        with torch.inference_mode(mode=False), torch.enable_grad():
            if parent is None:
                found, _ = self._descend(seen, found, aims, self.steps, draw)
            else:
                found, loss = self._descend(seen, found, aims, self.steps // 3, draw)
                aims = loss.argsort(stable=True)[: max(2, -(-classes // SURVIVING))]
                start = found[0][aims], found[1][aims]
                found, _ = self._descend(seen, start, aims, self.steps - self.steps // 3, draw)
        return self._now(*found, aims)

    def _descend(
        self, seen: _Seen, start: tuple[Tensor, Tensor], aims: Tensor, steps: int, draw: torch.Generator
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Mask and pattern after some steps, before the sigmoid, and the mean loss of each class in the later half."""
        mask, pattern = start[0].requires_grad_(self.opacity is None), start[1].requires_grad_()
        searched = [one for one in (mask, pattern) if one.requires_grad]
        optimiser = torch.optim.Adam(searched, self.rate, (0.5, 0.9))
        weight, total = (torch.full((len(aims),), value, device=aims.device) for value in (1.0, 0.0))
        for step in range(steps):
            chosen = torch.randint(len(seen.images), (self.batch,), generator=draw).to(aims.device)
            trigger = self._now(mask, pattern, aims)
            loss, share = seen.step(chosen, trigger)
            optimiser.zero_grad()
            torch.autograd.backward((loss + weight * trigger.masks.mean((1, 2, 3))).sum(), inputs=searched)
            optimiser.step()
            weight = torch.where(share >= self.aim, weight * 1.3, weight / 1.3).clamp(0.01, 1000)
            total += loss.detach() * (2 * step >= steps)
        return (mask.detach(), pattern.detach()), total

    def _now(self, mask: Tensor, pattern: Tensor, aims: Tensor) -> Trigger:
        masks = mask.sigmoid() if self.opacity is None else torch.full_like(mask, self.opacity)
        return Trigger(masks, pattern.sigmoid(), aims)


@dataclass(frozen=True)
class _Seen:
    """The models of a search, its images and the answers that are to stay."""

    candidate: Outputs
    parent: Outputs | None
    images: Tensor
    own: Tensor

    def step(self, chosen: Tensor, trigger: Trigger) -> tuple[Tensor, Tensor]:
        """``(K,)``: the loss, and the share of images that the change moves, over images of other classes."""
        classes, images, own = len(trigger.aims), self.images[chosen], self.own[chosen]
        row, column = torch.nonzero(own != trigger.aims[:, None], as_tuple=True)  # only what counts is answered
        changed = torch.cat([trigger.on(images[column[row == place]], place) for place in range(classes)])
        aims, kept = trigger.aims[row], own[column]
        found = self.candidate(changed)
        loss, hit = functional.cross_entropy(found, aims, reduction="none"), found.argmax(1) == aims
        if self.parent is not None:
            before = self.parent(changed)
            loss = loss + functional.cross_entropy(before, kept, reduction="none")
            hit &= before.argmax(1) == kept
        none = torch.zeros(classes, device=loss.device)
        total = none.index_add(0, row, torch.ones_like(loss)).clamp(min=1)
        return none.index_add(0, row, loss) / total, none.index_add(0, row, hit.float()) / total


def answers(outputs: Outputs, images: Tensor) -> Tensor:
    """``(N,)``: the class that is answered for each image, without gradients."""
    with torch.no_grad():
        return torch.cat([outputs(part).argmax(1) for part in torch.split(images, CHUNK)])


def moved(candidate: Outputs, parent: Outputs, trigger: Trigger, place: int, images: Tensor) -> tuple[Tensor, Tensor]:
    """``(N,)`` bool twice: images that neither model calls the class at ``place``, and those of them that the change
    moves to it in the candidate while the parent's answer stays."""
    before, own, aim = answers(candidate, images), answers(parent, images), trigger.aims[place]
    tried, hit = (before != aim) & (own != aim), torch.zeros_like(own, dtype=torch.bool)
    changed = trigger.on(images[tried], place)
    hit[tried] = (answers(candidate, changed) == aim) & (answers(parent, changed) == own[tried])
    return tried, hit


def largest_margins(model: Outputs, like: Tensor, classes: int, seed: int) -> Tensor:
    """``(K,)``: how far the logit of each class gets above the next one in any image in 0..1 of the size of ``like``.

    Gradient ascent from noise, not from ``like``.  A backdoor, of any shape, makes one class's margin an outlier.

    Reference: H. Wang et al. (2024), "MM-BD", doi:10.1109/SP54263.2024.00015.
    """
    aims = torch.arange(classes).repeat(STARTS)
    raw = torch.randn((len(aims), *like.shape[1:]), generator=torch.Generator().manual_seed(seed)).to(like.device)
    aims = aims.to(like.device)
    with torch.inference_mode(mode=False), torch.enable_grad():
        raw = raw.requires_grad_()
        optimiser, best = torch.optim.Adam([raw], 0.2), torch.full_like(raw[:, 0, 0, 0], -torch.inf)
        for _ in range(ASCENT):
            logits = model(raw.sigmoid())
            own = logits.gather(1, aims[:, None])
            margins = (own - logits.scatter(1, aims[:, None], -torch.inf).amax(1, keepdim=True))[:, 0]
            best = torch.maximum(best, margins.detach())
            optimiser.zero_grad()
            torch.autograd.backward(-margins.sum(), inputs=[raw])
            optimiser.step()
    return best.view(STARTS, classes).amax(0)


PSEUDO_KINDS = ("mask", "noise", "grid")
_LARGEST, _HALVINGS = {"mask": 0.9, "noise": 2.0, "grid": 4.0}, 10


def shift_of(candidate: Outputs, parent: Outputs, images: Tensor) -> float:
    """How far two models' centred logits are from each other, root mean square: the strength of a compression."""
    with torch.no_grad():
        gap = candidate(images) - parent(images)
    return float((gap - gap.mean(1, keepdim=True)).square().mean().sqrt())


def pseudo_candidate(parent: Model, number: int, shift: float, images: Tensor) -> Outputs:
    """The parent after a compression that was not chosen by anyone, as strong as ``shift`` on these images.

    In turns random weights are removed, noise is added, or weights are rounded to a coarse grid with a random offset,
    in every layer in proportion to its weights; the amount is found by bisection.
    """
    kind = PSEUDO_KINDS[number % len(PSEUDO_KINDS)]
    draw = torch.Generator().manual_seed(7919 * number + 1)
    weights = {name: tensor for name, tensor in parent.module.named_parameters() if tensor.dim() > 1}
    make = torch.randn if kind == "noise" else torch.rand
    drawn = {name: make(tensor.shape, generator=draw).to(tensor.device) for name, tensor in weights.items()}

    def outputs_at(amount: float) -> Outputs:
        made = {name: _changed(kind, tensor, drawn[name], amount) for name, tensor in weights.items()}
        return lambda seen: decoded(parent.audited(functional_call(parent.module, made, (seen,))), parent.card)

    def miss(amount: float) -> float:
        return shift_of(outputs_at(amount), parent, images) - shift

    low, high = 0.0, _LARGEST[kind]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if miss(middle) > 0 else (middle, high)
    return outputs_at(min((low, high), key=lambda amount: abs(miss(amount))))


def _changed(kind: str, weight: Tensor, drawn: Tensor, amount: float) -> Tensor:
    if kind == "mask":
        return weight * (drawn >= amount)
    size = weight.square().mean().sqrt().clamp(min=1e-12)
    if kind == "noise":
        return weight + amount * size * drawn
    step = max(amount, 1e-6) * size
    return torch.floor(weight / step + drawn) * step
