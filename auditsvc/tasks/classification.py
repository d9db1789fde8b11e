"""Image classification: one class for each image.  The score is 1 for the right class and 0 for any other."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from auditsvc.tasks.task import ImageScores, Task, pairs_of


class Classification(Task):
    """Top-1 classification; outputs are logits ``(N, C)``, targets class numbers ``(N,)`` int64.

    A network may have more outputs, for classes that no image has: an answer with one of them is wrong.
    """

    name = "classification"
    target_kind = "class"

    @classmethod
    def class_faults(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        """At least two classes."""
        return ("classification needs at least two classes",) if len(classes) < 2 else ()

    def score_batch(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """Score, answer and class; no counts."""
        return ImageScores(
            self.scores(outputs, targets), outputs.argmax(dim=1), targets, targets.new_zeros(len(targets), 0)
        )

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """1.0 where the largest logit is the target's, else 0.0.  A NaN anywhere in a row scores 0."""
        right = outputs.argmax(dim=1) == targets
        return (right & torch.isfinite(outputs).all(dim=1)).float()

    def confusion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(outputs, classes)``: how often each answer was given to each class."""
        return pairs_of(outputs.argmax(dim=1), targets, (outputs.shape[1], len(self.classes)))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy in nats."""
        return functional.cross_entropy(outputs, targets, reduction="none")

    def as_targets(self, outputs: Tensor) -> Tensor:
        """The class with the largest logit."""
        return outputs.argmax(dim=1)

    def distillation_loss(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """The Kullback-Leibler divergence of both softened outputs, times the squared temperature.

        Reference: G. Hinton, O. Vinyals and J. Dean (2015), "Distilling the Knowledge in a Neural Network",
        arXiv:1503.02531.
        """
        student, softened = (outputs / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
        return functional.kl_div(student, softened, reduction="batchmean", log_target=True) * temperature**2

    def describe_answer(self, answer: Any) -> str:
        """The class name."""
        return self._named(int(answer["answer"]))

    def describe_target(self, target: Tensor) -> str:
        """The class name."""
        return self._named(int(target))

    def _named(self, number: int) -> str:
        return self.classes[number] if 0 <= number < len(self.classes) else "a class that is not in the data set"
