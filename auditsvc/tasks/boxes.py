"""Boxes: how far two overlap, which answers of a detector count, and which of them find an object.

Everything works on whole batches, image by image independent of the others, so a reading does not depend on the
batch size.  Boxes are ``x0, y0, x1, y1`` in shares of the image's width and height.

References: M. Everingham et al. (2010), "The Pascal Visual Object Classes Challenge", doi:10.1007/s11263-009-0275-4;
T.-Y. Lin et al. (2014), "Microsoft COCO", arXiv:1405.0312 (each answer, the surest first, takes the free object of its
class that it overlaps most; what overlaps a crowd is not counted).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SURE = 0.5
"""Answers of at least this confidence count; decoding puts a model's own operating point here."""

ONE = 0.5
"""Two answers of a class that overlap more than this are one; an answer that overlaps an object so far finds it."""

MOST = 100
"""Answers of one image that are looked at, the surest first."""

NONE, IGNORED = -1, -2
"""Classes of targets: padding, and a region in which nothing is counted as a false alarm."""


@dataclass(frozen=True)
class Found:
    """The answers that are looked at, the surest first: ``boxes`` (N, K, 4), ``scores`` (N, K), ``classes`` (N, K), and
    which of them are ``kept`` (N, K)."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    kept: Tensor


def overlap(left: Tensor, right: Tensor) -> Tensor:
    """Intersection over union: ``(N, A, 4)`` and ``(N, M, 4)`` to ``(N, A, M)``; 0 where either has no area."""
    shared, areas, others = _shared(left, right), _area(left), _area(right)
    whole = areas[:, :, None] + others[:, None] - shared
    return torch.where(whole > 0, shared / whole.clamp_min(1e-12), 0.0)


def _shared(left: Tensor, right: Tensor) -> Tensor:
    corner = torch.maximum(left[:, :, None, :2], right[:, None, :, :2])
    other = torch.minimum(left[:, :, None, 2:4], right[:, None, :, 2:4])
    return (other - corner).clamp_min(0).prod(dim=-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:4] - boxes[..., :2]).clamp_min(0).prod(dim=-1)


def found_in(outputs: Tensor, sure: float = SURE) -> Found:
    """The answers of ``(N, A, 4 + C)``: the best class of each box, the surest of those that overlap, down to ``sure``.

    What is not a finite number is no answer.
    """
    outputs = torch.where(torch.isfinite(outputs).all(dim=-1, keepdim=True), outputs, 0.0)
    best, classes = outputs[..., 4:].max(dim=-1)
    scores, order = best.sort(dim=1, descending=True, stable=True)
    order, scores = order[:, :MOST], scores[:, :MOST]
    boxes = outputs[..., :4].gather(1, order[..., None].expand(-1, -1, 4))
    classes = classes.gather(1, order)
    clash = (overlap(boxes, boxes) > ONE) & (classes[:, :, None] == classes[:, None])
    kept = scores >= sure
    for place in range(int(kept.sum(dim=1).max()) if len(kept) else 0):
        kept[:, place + 1 :] &= ~(clash[:, place, place + 1 :] & kept[:, place : place + 1])
    return Found(boxes, scores, classes, kept)


def matched(found: Found, targets: Tensor, least: float = ONE) -> tuple[Tensor, Tensor]:
    """Which object each answer finds, ``(N, K)`` with -1 for none, and which answers count as right or wrong at all.

    ``targets`` is ``(N, M, 5)``: class, box.  An answer that finds nothing and lies, by half of its area, in an ignored
    region does not count.
    """
    classes = targets[..., 0].long()
    near = overlap(found.boxes, targets[..., 1:5])
    fits = (near >= least) & (found.classes[:, :, None] == classes[:, None]) & found.kept[:, :, None]
    free, which = classes >= 0, torch.full_like(found.classes, -1)
    for place in range(int(found.kept.any(dim=0).nonzero().max()) + 1 if bool(found.kept.any()) else 0):
        open_ones = torch.where(fits[:, place] & free, near[:, place], -1.0)
        if open_ones.shape[1] == 0:
            break
        value, object_ = open_ones.max(dim=1)
        hit = value >= 0
        which[:, place] = torch.where(hit, object_, -1)
        free = free & ~(torch.nn.functional.one_hot(object_, free.shape[1]).bool() & hit[:, None])
    ignored = torch.where((classes == IGNORED)[:, None], _shared(found.boxes, targets[..., 1:5]), 0.0)
    inside = ignored.sum(dim=-1) >= 0.5 * _area(found.boxes).clamp_min(1e-12)
    return which, found.kept & ((which >= 0) | ~inside)
