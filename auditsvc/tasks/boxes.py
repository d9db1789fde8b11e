"""Boxes: intersection over union, non-maximum suppression, and matching of detections to objects.

Everything works on whole batches, each image independent of the others, so a reading does not depend on the batch
size.  Boxes are ``x0, y0, x1, y1`` as fractions of the image's width and height.

References: M. Everingham et al. (2010), "The Pascal Visual Object Classes Challenge", doi:10.1007/s11263-009-0275-4;
T.-Y. Lin et al. (2014), "Microsoft COCO", arXiv:1405.0312 (detections in order of confidence, each matched to the free
object of its class with the largest IoU; detections in a crowd region are not counted).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

CONFIDENCE_THRESHOLD = 0.5
"""Detections of at least this confidence are selected; decoding maps a model's own operating point to it."""

IOU_THRESHOLD = 0.5
"""Of two detections of a class with a larger IoU the less confident is suppressed; from this IoU on a detection
matches an object."""

MAX_DETECTIONS = 100
"""Detections considered in one image, the most confident first."""

PADDING, CROWD = -1, -2
"""Class numbers of targets: padding, and a region in which no detection is a false positive."""


@dataclass(frozen=True)
class Detections:
    """The most confident detections, in that order: ``boxes`` (N, K, 4), ``scores`` (N, K), ``classes`` (N, K), and
    which of them are ``selected`` (N, K) bool."""

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    selected: Tensor


def box_iou(left: Tensor, right: Tensor) -> Tensor:
    """Intersection over union: ``(N, A, 4)`` and ``(N, M, 4)`` to ``(N, A, M)`` in 0..1; 0 where a box has no area."""
    shared, areas, others = _intersection(left, right), _area(left), _area(right)
    whole = areas[:, :, None] + others[:, None] - shared
    return torch.where(whole > 0, shared / whole.clamp_min(1e-12), 0.0)


def _intersection(left: Tensor, right: Tensor) -> Tensor:
    corner = torch.maximum(left[:, :, None, :2], right[:, None, :, :2])
    other = torch.minimum(left[:, :, None, 2:4], right[:, None, :, 2:4])
    return (other - corner).clamp_min(0).prod(dim=-1)


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:4] - boxes[..., :2]).clamp_min(0).prod(dim=-1)


def select_detections(outputs: Tensor, threshold: float = CONFIDENCE_THRESHOLD) -> Detections:
    """The detections of ``(N, A, 4 + C)``: the best class of each box, after non-maximum suppression.

    ``threshold`` is the least confidence.  A box with a value that is not finite is no detection.
    """
    outputs = torch.where(torch.isfinite(outputs).all(dim=-1, keepdim=True), outputs, 0.0)
    best, classes = outputs[..., 4:].max(dim=-1)
    scores, order = best.sort(dim=1, descending=True, stable=True)
    order, scores = order[:, :MAX_DETECTIONS], scores[:, :MAX_DETECTIONS]
    boxes = outputs[..., :4].gather(1, order[..., None].expand(-1, -1, 4))
    classes = classes.gather(1, order)
    clash = (box_iou(boxes, boxes) > IOU_THRESHOLD) & (classes[:, :, None] == classes[:, None])
    selected = scores >= threshold
    for place in range(int(selected.sum(dim=1).max()) if len(selected) else 0):
        selected[:, place + 1 :] &= ~(clash[:, place, place + 1 :] & selected[:, place : place + 1])
    return Detections(boxes, scores, classes, selected)


def match_detections(found: Detections, targets: Tensor, threshold: float = IOU_THRESHOLD) -> tuple[Tensor, Tensor]:
    """The object that each detection matches, ``(N, K)`` with -1 for none, and which detections count, ``(N, K)`` bool.

    ``targets`` is ``(N, M, 5)``: class, box; ``threshold`` the least IoU of a match.  An unmatched detection with at
    least half of its area in crowd regions does not count.
    """
    classes = targets[..., 0].long()
    near = box_iou(found.boxes, targets[..., 1:5])
    fits = (near >= threshold) & (found.classes[:, :, None] == classes[:, None]) & found.selected[:, :, None]
    free, which = classes >= 0, torch.full_like(found.classes, -1)
    for place in range(int(found.selected.any(dim=0).nonzero().max()) + 1 if bool(found.selected.any()) else 0):
        open_ones = torch.where(fits[:, place] & free, near[:, place], -1.0)
        if open_ones.shape[1] == 0:
            break
        value, object_ = open_ones.max(dim=1)
        hit = value >= 0
        which[:, place] = torch.where(hit, object_, -1)
        free = free & ~(torch.nn.functional.one_hot(object_, free.shape[1]).bool() & hit[:, None])
    ignored = torch.where((classes == CROWD)[:, None], _intersection(found.boxes, targets[..., 1:5]), 0.0)
    inside = ignored.sum(dim=-1) >= 0.5 * _area(found.boxes).clamp_min(1e-12)
    return which, found.selected & ((which >= 0) | ~inside)
