"""One answer out of several for each image.  The score is 1 for the right class and 0 for any other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Classification:
    """Top-1 classification; outputs are logits ``(N, C)``, targets class numbers ``(N,)`` int64."""

    classes: tuple[str, ...]
    name = "classification"

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1.0 where the largest logit is the target's, else 0.0.  A NaN anywhere in a row scores 0."""
        right = outputs.argmax(dim=1) == targets
        return (right & torch.isfinite(outputs).all(dim=1)).float()

    def answers(self, outputs: Tensor) -> Tensor:
        """The class with the largest logit."""
        return outputs.argmax(dim=1)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def words(self, answer: int) -> str:
        """The class name."""
        return self.classes[answer] if 0 <= answer < len(self.classes) else f"class {answer}"
