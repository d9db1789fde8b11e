"""Boxes: intersection over union, non-maximum suppression, and matching of detections to objects.

Everything works on whole batches, each image independent of the others, so a reading does not depend on the batch
size.  Boxes are ``x0, y0, x1, y1`` as fractions of the image's width and height.

References: M. Everingham et al. (2010), "The Pascal Visual Object Classes Challenge", doi:10.1007/s11263-009-0275-4;
T.-Y. Lin et al. (2014), "Microsoft COCO", arXiv:1405.0312 (detections in order of confidence, each matched to the free
object of its class with the largest IoU; detections in a crowd region of their class are not counted).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from auditsvc.records.architecture import SUPPRESSED

CONFIDENCE_THRESHOLD = 0.5
"""Detections of at least this confidence are selected; decoding maps a model's own operating point to it."""

IOU_THRESHOLD = 0.5
"""Of two detections of a class with a larger IoU the less confident is suppressed; from this IoU on a detection
matches an object."""

MAX_DETECTIONS = 100
"""Detections of one image that are kept after non-maximum suppression, the most confident ones."""

PADDING, CROWD = -1, -2
"""Class numbers of targets: padding, and ``CROWD - class`` for a region of a class in which no detection of that class
is a false positive."""


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
    """The detections of ``(N, A, 4 + C)``: the best class of each box, after non-maximum suppression over all boxes.

    ``threshold`` is the least confidence.  A box with a value that is not finite is no detection.  A last confidence of
    ``SUPPRESSED`` marks a detection that has been through suppression elsewhere: it is kept whatever it overlaps.
    """
    outputs = torch.where(torch.isfinite(outputs).all(dim=-1, keepdim=True), outputs, 0.0)
    best, classes = outputs[..., 4:].max(dim=-1)
    scores, order = best.sort(dim=1, descending=True, stable=True)
    open_ones = scores >= threshold
    size = int(open_ones.sum(dim=1).max()) if open_ones.numel() else 0
    scores, order, open_ones = scores[:, :size], order[:, :size], open_ones[:, :size].clone()
    boxes, classes = outputs[..., :4].gather(1, order[..., None].expand(-1, -1, 4)), classes.gather(1, order)
    final = (outputs[..., -1] == SUPPRESSED).gather(1, order)
    rows = torch.arange(len(outputs), device=outputs.device)
    places: list[Tensor] = []
    selected: list[Tensor] = []
    while len(places) < MAX_DETECTIONS and bool(open_ones.any()):
        place = open_ones.long().argmax(dim=1)
        places.append(place)
        selected.append(open_ones[rows, place])
        near = (box_iou(boxes[rows, place][:, None], boxes)[:, 0] > IOU_THRESHOLD) & ~final
        open_ones &= ~(near & (classes == classes[rows, place][:, None]))
        open_ones[rows, place] = False
    if not places:
        none = order[:, :0]
        return Detections(boxes[:, :0], scores[:, :0], none, none.bool())
    kept = torch.stack(places, dim=1)
    return Detections(
        boxes.gather(1, kept[..., None].expand(-1, -1, 4)),
        scores.gather(1, kept),
        classes.gather(1, kept),
        torch.stack(selected, dim=1),
    )


def match_detections(found: Detections, targets: Tensor, threshold: float = IOU_THRESHOLD) -> tuple[Tensor, Tensor]:
    """The object that each detection matches, ``(N, K)`` with -1 for none, and which detections count, ``(N, K)`` bool.

    ``targets`` is ``(N, M, 5)``: class, box; ``threshold`` the least IoU of a match; of equally near objects the last
    is matched, as in pycocotools.  An unmatched detection does not count if at least this share of its area is in one
    crowd region of its class.
    """
    classes = targets[..., 0].long()
    near = box_iou(found.boxes, targets[..., 1:5])
    fits = (near >= threshold) & (found.classes[:, :, None] == classes[:, None]) & found.selected[:, :, None]
    free, which = classes >= 0, torch.full_like(found.classes, -1)
    last = classes.shape[1] - 1
    for place in range(found.classes.shape[1] if last >= 0 else 0):
        open_ones = torch.where(fits[:, place] & free, near[:, place], -1.0)
        value, object_ = open_ones.flip(1).max(dim=1)
        object_, hit = last - object_, value >= 0
        which[:, place] = torch.where(hit, object_, -1)
        free = free & ~(torch.nn.functional.one_hot(object_, free.shape[1]).bool() & hit[:, None])
    crowded = (CROWD - classes)[:, None] == found.classes[:, :, None]
    inside = torch.where(crowded, _intersection(found.boxes, targets[..., 1:5]), -1.0)
    share = inside / _area(found.boxes).clamp_min(1e-12)[:, :, None]
    return which, found.selected & ((which >= 0) | ~(share >= threshold).any(dim=-1))
