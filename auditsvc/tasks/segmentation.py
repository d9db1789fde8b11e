"""A class for each pixel.  The score is the image's mean intersection over union.

The mean is over the classes that the image has or that are said of it, background among them; pixels marked 255 are
ignored.  Pixels differ a little between any two models, so an answer counts as another one only if the classes that
are found by half differ, and an image as lost only if its score falls by more than ``step``.

Reference: M. Everingham et al. (2010), "The Pascal Visual Object Classes Challenge", doi:10.1007/s11263-009-0275-4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.tasks.scoring import ImageScores, digest_of_rows, no_class

IGNORED = 255
"""The class of pixels that don't count."""

SHARED, SAID, THERE = 0, 1, 2
"""What is tallied for each class, in pixels: said and there, said, there."""


@dataclass(frozen=True)
class Segmentation:
    """Outputs are logits ``(N, C, h, w)``, scaled to the targets' size; targets class numbers ``(N, H, W)``."""

    classes: tuple[str, ...]
    name = "segmentation"
    step = 0.05

    @property
    def tallied(self) -> int:
        """For each class: pixels shared, said, there."""
        return 3 * len(self.classes)

    def judged(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """Mean IoU, and the pixels of each class."""
        size, valid = len(self.classes), (targets != IGNORED).flatten(1)
        said = self._scaled(outputs, targets).argmax(dim=1).flatten(1)
        there = targets.long().flatten(1).clamp(0, size - 1)
        finite = torch.isfinite(outputs).flatten(1).all(dim=1)
        cells = torch.zeros(len(said), size * size, dtype=torch.int64, device=said.device)
        cells = cells.scatter_add_(1, there * size + said, valid.long()).view(-1, size, size)
        shared = cells.diagonal(dim1=1, dim2=2) * finite[:, None]
        tally = torch.stack((shared, cells.sum(dim=1), cells.sum(dim=2)), dim=2)
        union = tally[..., SAID] + tally[..., THERE] - shared
        each = shared / union.clamp_min(1)
        score = each.sum(dim=1) / (union > 0).sum(dim=1).clamp_min(1)
        found = (each >= 0.5) & (union > 0)
        return ImageScores(score.float(), digest_of_rows(found), no_class(targets), tally.flatten(1))

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean IoU of each image."""
        return self.judged(outputs, targets).score

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the pixels that count, in nats."""
        each = functional.cross_entropy(
            self._scaled(outputs, targets), targets.long(), ignore_index=IGNORED, reduction="none"
        )
        return each.flatten(1).sum(dim=1) / (targets != IGNORED).flatten(1).sum(dim=1).clamp_min(1)

    def answered(self, outputs: Tensor) -> Tensor:
        """``(N, h, w)``: the class of each pixel."""
        return outputs.argmax(dim=1)

    def imitation(self, outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """The divergence between both models' softened answers for each pixel, times the temperature squared."""
        found, taught = (outputs / temperature).log_softmax(1), (wanted / temperature).log_softmax(1)
        each = functional.kl_div(found, taught, reduction="none", log_target=True).sum(dim=1)
        return each.mean() * temperature**2

    def words(self, answer: Any) -> str:
        """``mean IoU 0.71: background 0.95, nucleus 0.47``."""
        counts = answer["tally"].reshape(-1, 3).astype(int)
        unions = counts[:, SAID] + counts[:, THERE] - counts[:, SHARED]
        each = [
            f"{name} {shared / union:.2f}"
            for name, shared, union in zip(self.classes, counts[:, SHARED], unions, strict=True)
            if union
        ]
        return f"mean IoU {float(answer['score']):.2f}: {', '.join(each)}"

    def target_words(self, target: Tensor) -> str:
        """``background 90 %, nucleus 10 %``."""
        counted = target[target != IGNORED]
        shares = [(float((counted == place).float().mean()), name) for place, name in enumerate(self.classes)]
        return ", ".join(f"{name} {share:.0%}" for share, name in shares if share > 0)

    @staticmethod
    def _scaled(outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.shape[2:] == targets.shape[1:]:
            return outputs
        return functional.interpolate(outputs, size=targets.shape[1:], mode="bilinear", align_corners=False)
