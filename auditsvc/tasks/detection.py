"""Object detection: objects in each image, each with a class and a box.  The score is the image's F1 at IoU 0.5.

A detection that matches an object of its class with an intersection over union (IoU) of at least one half is a true
positive, any other a false positive.  An image without objects scores 1 if there is no detection.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.tasks.boxes import IOU_THRESHOLD, PADDING, box_iou, match_detections, select_detections
from auditsvc.tasks.task import ImageScores, TargetKind, Task, digest_of_rows, no_class, pairs_of

TRUE_POSITIVE, FALSE_NEGATIVE, FALSE_POSITIVE = 0, 1, 2
"""The counts of each class: objects found, objects missed, detections without an object."""

SMALL = 1e-6


class Detection(Task):
    """Outputs are ``(N, A, 4 + C)``: boxes as fractions of the image, and for each class a confidence in 0..1 with
    the model's operating point at one half.  Targets are ``(N, M, 5)``: class (-1 pads, -2 and
    below are crowds, see ``boxes.CROWD``), box."""

    name = "detection"
    target_kind: ClassVar[TargetKind] = "boxes"

    @property
    def tally_size(self) -> int:
        """True positives, false negatives and false positives of each class."""
        return 3 * len(self.classes)

    def score_batch(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """F1, and the counts of each class."""
        targets = targets[..., :5]
        detections = select_detections(outputs)
        which, counts = match_detections(detections, targets)
        classes, size = targets[..., 0].long(), len(self.classes)
        hit = which >= 0
        right = _by_class(detections.classes, hit, size)
        false = _by_class(detections.classes, counts & ~hit, size)
        objects = _by_class(classes.clamp_min(0), classes >= 0, size)
        tally = torch.stack((right, objects - right, false), dim=2).flatten(1)
        hits, wrong = right.sum(dim=1), (objects - right + false).sum(dim=1)
        score = torch.where(hits + wrong > 0, 2 * hits / (2 * hits + wrong).clamp_min(1), 1.0).float()
        return ImageScores(score, digest_of_rows(tally), no_class(targets), tally)

    def confusion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(classes, classes)``: the class of each detection, and of the object at its place whatever its class."""
        found, classes = select_detections(outputs), targets[..., 0].long()
        alike = torch.cat((classes.clamp(-1, 0)[..., None].to(targets), targets[..., 1:5]), dim=2)
        which, _ = match_detections(replace(found, classes=torch.zeros_like(found.classes)), alike)
        hit = which >= 0
        objects = classes.gather(1, which.clamp_min(0)) if classes.shape[1] else which
        return pairs_of(found.classes[hit], objects[hit], (len(self.classes), len(self.classes)))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats: of the best box of each object, and of the boxes away from every object."""
        boxes, sure = outputs[..., :4], outputs[..., 4:].clamp(SMALL, 1 - SMALL)
        classes, real = targets[..., 0].long(), targets[..., 0] >= 0
        near = box_iou(boxes.detach(), targets[..., 1:5]) >= IOU_THRESHOLD
        own = sure.gather(2, classes.clamp_min(0)[:, None].expand(-1, sure.shape[1], -1))
        best = torch.where(near, own, SMALL).amax(dim=1)
        missed = (-(best.log()) * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)
        away = ~(near & real[:, None]).any(dim=2)
        surest = sure.amax(dim=2)
        false = (-((1 - surest).log()) * away).sum(dim=1) / away.sum(dim=1).clamp_min(1)
        return missed + false

    def as_targets(self, outputs: Tensor) -> Tensor:
        """``(N, K, 5)``: the selected detections as objects."""
        found = select_detections(outputs)
        classes = torch.where(found.selected, found.classes, PADDING)[..., None]
        return torch.cat((classes.to(found.boxes.dtype), found.boxes), dim=2)

    def distillation_loss(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:  # noqa: ARG002
        """Cross-entropy of the confidences, and box distance weighted by the teacher's; ``temperature`` is not used."""
        sure = teacher[..., 4:].amax(dim=2)
        confidence = functional.binary_cross_entropy(
            outputs[..., 4:].clamp(SMALL, 1 - SMALL), teacher[..., 4:].clamp(0, 1), reduction="none"
        ).sum(dim=2)
        place = (outputs[..., :4] - teacher[..., :4]).abs().sum(dim=2) * sure
        return (confidence + 5 * place).sum(dim=1).mean() / sure.sum(dim=1).mean().clamp_min(1)

    def describe_answer(self, answer: Any) -> str:
        """``3 of 4 found, 1 false positive``."""
        counts = answer["tally"].reshape(-1, 3).astype(int).sum(axis=0)
        false = f"{counts[FALSE_POSITIVE]} false positive{'' if counts[FALSE_POSITIVE] == 1 else 's'}"
        return f"{counts[TRUE_POSITIVE]} of {counts[TRUE_POSITIVE] + counts[FALSE_NEGATIVE]} found, {false}"

    def describe_target(self, target: Tensor) -> str:
        """``2 RBC, 1 WBC``."""
        numbers = [int(number) for number in target[:, 0]]
        named = [(numbers.count(place), name) for place, name in enumerate(self.classes)]
        return ", ".join(f"{count} {name}" for count, name in named if count) or "nothing"


def _by_class(classes: Tensor, counted: Tensor, size: int) -> Tensor:
    """``(N, C)``: the number of counted boxes of each class."""
    return torch.zeros(len(classes), size, dtype=torch.int64, device=classes.device).scatter_add_(
        1, classes, counted.long()
    )
