"""Several objects in each image, each with a class and a box.  The score is the image's F1 at half overlap.

An object is found if an answer of its class overlaps it by half; an answer that finds none is a false alarm.  An image
without objects scores 1 if nothing is said of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.tasks.boxes import NONE, ONE, found_in, matched, overlap
from auditsvc.tasks.scoring import ImageScores, digest_of_rows, no_class

FOUND, MISSED, FALSE = 0, 1, 2
"""What is tallied for each class: objects found, objects missed, false alarms."""

SMALL = 1e-6


@dataclass(frozen=True)
class Detection:
    """Outputs are ``(N, A, 4 + C)``: boxes in shares of the image, and for each class a confidence in 0..1 with the
    model's operating point at one half.  Targets are ``(N, M, 5)``: class (-1 pads, -2 ignores), box."""

    classes: tuple[str, ...]
    name = "detection"
    step = 0.0

    @property
    def tallied(self) -> int:
        """For each class: found, missed, false."""
        return 3 * len(self.classes)

    def judged(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """F1, and objects found, missed and made up, class by class."""
        targets = targets[..., :5]
        found = found_in(outputs)
        which, counts = matched(found, targets)
        classes, size = targets[..., 0].long(), len(self.classes)
        hit = which >= 0
        right = _by_class(found.classes, hit, size)
        false = _by_class(found.classes, counts & ~hit, size)
        objects = _by_class(classes.clamp_min(0), classes >= 0, size)
        tally = torch.stack((right, objects - right, false), dim=2).flatten(1)
        hits, wrong = right.sum(dim=1), (objects - right + false).sum(dim=1)
        score = torch.where(hits + wrong > 0, 2 * hits / (2 * hits + wrong).clamp_min(1), 1.0).float()
        return ImageScores(score, digest_of_rows(tally), no_class(targets), tally)

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """F1 of each image."""
        return self.judged(outputs, targets).score

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """How sure the model is of what is wrong: of each object's best box that it is none, of other boxes that
        they are something; in nats."""
        boxes, sure = outputs[..., :4], outputs[..., 4:].clamp(SMALL, 1 - SMALL)
        classes, real = targets[..., 0].long(), targets[..., 0] >= 0
        near = overlap(boxes.detach(), targets[..., 1:5]) >= ONE
        own = sure.gather(2, classes.clamp_min(0)[:, None].expand(-1, sure.shape[1], -1))
        best = torch.where(near, own, SMALL).amax(dim=1)
        missed = (-(best.log()) * real).sum(dim=1) / real.sum(dim=1).clamp_min(1)
        away = ~(near & real[:, None]).any(dim=2)
        surest = sure.amax(dim=2)
        false = (-((1 - surest).log()) * away).sum(dim=1) / away.sum(dim=1).clamp_min(1)
        return missed + false

    def answered(self, outputs: Tensor) -> Tensor:
        """``(N, K, 5)``: the answers that count, as objects."""
        found = found_in(outputs)
        classes = torch.where(found.kept, found.classes, NONE)[..., None]
        return torch.cat((classes.to(found.boxes.dtype), found.boxes), dim=2)

    def imitation(self, outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:  # noqa: ARG002
        """Both models' confidences beside each other, and their boxes where the parent is sure; it has no softness."""
        sure = wanted[..., 4:].amax(dim=2)
        confidence = functional.binary_cross_entropy(
            outputs[..., 4:].clamp(SMALL, 1 - SMALL), wanted[..., 4:].clamp(0, 1), reduction="none"
        ).sum(dim=2)
        place = (outputs[..., :4] - wanted[..., :4]).abs().sum(dim=2) * sure
        return (confidence + 5 * place).sum(dim=1).mean() / sure.sum(dim=1).mean().clamp_min(1)

    def words(self, answer: Any) -> str:
        """``3 of 4 found, 1 false alarm``."""
        counts = answer["tally"].reshape(-1, 3).astype(int).sum(axis=0)
        alarms = f"{counts[FALSE]} false alarm{'' if counts[FALSE] == 1 else 's'}"
        return f"{counts[FOUND]} of {counts[FOUND] + counts[MISSED]} found, {alarms}"

    def target_words(self, target: Tensor) -> str:
        """``2 RBC, 1 WBC``."""
        numbers = [int(number) for number in target[:, 0]]
        named = [(numbers.count(place), name) for place, name in enumerate(self.classes)]
        return ", ".join(f"{count} {name}" for count, name in named if count) or "nothing"


def _by_class(classes: Tensor, counted: Tensor, size: int) -> Tensor:
    """``(N, C)``: how many of those that are counted have each class."""
    return torch.zeros(len(classes), size, dtype=torch.int64, device=classes.device).scatter_add_(
        1, classes, counted.long()
    )
