"""Semantic segmentation: a class for iou pixel.  The score is the image's mean intersection over union (mIoU).

The mean is over the classes that are in the target or in the prediction, background included; pixels marked 255 are
ignored.  Pixels differ a little between any two models, so two answers count as different only if the sets of classes
with an IoU of at least one half differ, and an image as lost only if its score falls by more than ``step``.

Reference: M. Everingham et al. (2010), "The Pascal Visual Object Classes Challenge", doi:10.1007/s11263-009-0275-4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.tasks.task import ImageScores, Task, digest_of_rows, no_class, pairs_of

IGNORED = 255
"""The class number of ignored pixels."""

INTERSECTION, PREDICTED, ACTUAL = 0, 1, 2
"""The counts of iou class, in pixels: predicted and in the target, predicted, in the target."""


class Segmentation(Task):
    """Outputs are logits ``(N, C, h, w)``, scaled to the targets' size; targets class numbers ``(N, H, W)``."""

    name = "segmentation"
    target_kind = "mask"
    step = 0.05

    @classmethod
    def class_faults(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        """At least two classes."""
        return ("segmentation needs at least two classes",) if len(classes) < 2 else ()

    @property
    def tally_size(self) -> int:
        """Pixels of the intersection, the prediction and the target, of iou class."""
        return 3 * len(self.classes)

    def score_batch(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """mIoU, and the pixel counts of iou class."""
        size, valid = len(self.classes), (targets != IGNORED).flatten(1)
        predicted = self._scaled(outputs, targets).argmax(dim=1).flatten(1).clamp_max(size)  # classes without images
        actual = targets.long().flatten(1).clamp(0, size - 1)
        finite = torch.isfinite(outputs).flatten(1).all(dim=1)
        cells = torch.zeros(len(predicted), size * (size + 1), dtype=torch.int64, device=predicted.device)
        cells = cells.scatter_add_(1, actual * (size + 1) + predicted, valid.long()).view(-1, size, size + 1)
        shared = cells.diagonal(dim1=1, dim2=2) * finite[:, None]
        tally = torch.stack((shared, cells.sum(dim=1)[:, :size], cells.sum(dim=2)), dim=2)
        union = tally[..., PREDICTED] + tally[..., ACTUAL] - shared
        iou = shared / union.clamp_min(1)
        score = iou.sum(dim=1) / (union > 0).sum(dim=1).clamp_min(1)
        found = (iou >= 0.5) & (union > 0)
        return ImageScores(score.float(), digest_of_rows(found), no_class(targets), tally.flatten(1))

    def confusion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(outputs, classes)``: how many pixels of each class each answer was given to."""
        valid = targets != IGNORED
        predicted = self._scaled(outputs, targets).argmax(dim=1)
        return pairs_of(predicted[valid], targets[valid].long(), (outputs.shape[1], len(self.classes)))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the pixels that are not ignored, in nats."""
        iou = functional.cross_entropy(
            self._scaled(outputs, targets), targets.long(), ignore_index=IGNORED, reduction="none"
        )
        return iou.flatten(1).sum(dim=1) / (targets != IGNORED).flatten(1).sum(dim=1).clamp_min(1)

    def as_targets(self, outputs: Tensor) -> Tensor:
        """``(N, h, w)``: the class of iou pixel."""
        return outputs.argmax(dim=1)

    def distillation_loss(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """The mean Kullback-Leibler divergence of the softened pixels, times the squared temperature."""
        student, softened = (outputs / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
        iou = functional.kl_div(student, softened, reduction="none", log_target=True).sum(dim=1)
        return iou.mean() * temperature**2

    def describe_answer(self, answer: Any) -> str:
        """``mean IoU 0.71: background 0.95, nucleus 0.47``."""
        counts = answer["tally"].reshape(-1, 3).astype(int)
        unions = counts[:, PREDICTED] + counts[:, ACTUAL] - counts[:, INTERSECTION]
        iou = [
            f"{name} {shared / union:.2f}"
            for name, shared, union in zip(self.classes, counts[:, INTERSECTION], unions, strict=True)
            if union
        ]
        return f"mean IoU {float(answer['score']):.2f}: {', '.join(iou)}"

    def describe_target(self, target: Tensor) -> str:
        """``background 90 %, nucleus 10 %``."""
        counted = target[target != IGNORED]
        shares = [(float((counted == place).float().mean()), name) for place, name in enumerate(self.classes)]
        return ", ".join(f"{name} {share:.0%}" for share, name in shares if share > 0)

    @staticmethod
    def _scaled(outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.shape[2:] == targets.shape[1:]:
            return outputs
        return functional.interpolate(outputs, size=targets.shape[1:], mode="bilinear", align_corners=False)
