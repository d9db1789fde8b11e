"""One answer out of several for each image.  The score is 1 for the right class and 0 for any other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.tasks.scoring import ImageScores


@dataclass(frozen=True)
class Classification:
    """Top-1 classification; outputs are logits ``(N, C)``, targets class numbers ``(N,)`` int64."""

    classes: tuple[str, ...]
    name = "classification"
    tallied = 0
    step = 0.0

    def judged(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """Score, answer and class; nothing is tallied."""
        return ImageScores(
            self.scores(outputs, targets), outputs.argmax(dim=1), targets, targets.new_zeros(len(targets), 0)
        )

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1.0 where the largest logit is the target's, else 0.0.  A NaN anywhere in a row scores 0."""
        right = outputs.argmax(dim=1) == targets
        return (right & torch.isfinite(outputs).all(dim=1)).float()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def answered(self, outputs: Tensor) -> Tensor:
        """The class with the largest logit."""
        return outputs.argmax(dim=1)

    def imitation(self, outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """The divergence between both models' softened answers, times the temperature squared (Hinton et al., 2015)."""
        found, taught = (outputs / temperature).log_softmax(1), (wanted / temperature).log_softmax(1)
        return functional.kl_div(found, taught, reduction="batchmean", log_target=True) * temperature**2

    def words(self, answer: Any) -> str:
        """The class name."""
        return self._named(int(answer["answer"]))

    def target_words(self, target: Tensor) -> str:
        """The class name."""
        return self._named(int(target))

    def _named(self, number: int) -> str:
        return self.classes[number] if 0 <= number < len(self.classes) else f"class {number}"
