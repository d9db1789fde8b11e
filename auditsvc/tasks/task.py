"""What a task is, and what it reports for a batch of outputs.

``Task`` is the base class of every kind of model output: subclass it in a file of this package, or in an installed
package with an entry point in the group ``auditsvc.tasks``, and policies, cards and data sets can name it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

TargetKind = Literal["class", "text", "mask", "boxes", "tracks"]
"""Forms of target: class numbers ``(N,)`` int64; character numbers ``(N, L)`` int64, -1 pads; a class number for each
pixel ``(N, H, W)`` uint8, 255 is ignored; ``(N, M, 5)`` float32 class, box, -1 pads; ``(N, M, 6)``, and the object's
number in its sequence."""


@dataclass(frozen=True)
class ImageScores:
    """The evaluated outputs of a batch.

    ``score`` (N,) float32 in 0..1; ``answer`` (N,) int64, equal where two outputs mean the same; ``target`` (N,)
    int64, the class of an image that has one, else 0; ``tally`` (N, K) int64, per-image counts, so that metrics of a
    whole corpus (recall, mean IoU, character error rate) are ratios of their sums.
    """

    score: Tensor
    answer: Tensor
    target: Tensor
    tally: Tensor


@dataclass(frozen=True)
class Task(ABC):
    """One kind of model output, for data with these ``classes`` in the order of their numbers.

    ``name`` is the task's id in records.  ``target_kind`` is the form of its targets.  ``step``: an image counts as
    lost or gained only if its score changes by more than this.
    """

    classes: tuple[str, ...]
    name: ClassVar[str]
    target_kind: ClassVar[TargetKind]
    step: ClassVar[float] = 0.0

    @property
    def tally_size(self) -> int:
        """How many counts an image has: K of ``ImageScores.tally``."""
        return 0

    @classmethod
    def class_faults(cls, classes: tuple[str, ...]) -> tuple[str, ...]:  # noqa: ARG003
        """Why a data set can't have these classes; none if it can."""
        return ()

    @abstractmethod
    def score_batch(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """Score, answer, class and counts of each image."""

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` float32 in 0..1: how right each answer is."""
        return self.score_batch(outputs, targets).score

    def confusion(self, outputs: Tensor, targets: Tensor) -> Tensor | None:  # noqa: ARG002
        """How often each answer (rows, those of classes without images last) was given where each class is; None for a
        task whose answers are no classes."""
        return None

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` differentiable, larger is worse: attacks maximise it, training minimises it."""

    @abstractmethod
    def as_targets(self, outputs: Tensor) -> Tensor:
        """The outputs in the form of targets: another model's outputs can be scored against them."""

    @abstractmethod
    def distillation_loss(self, outputs: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """``()``, differentiable: the distance of a student's outputs from its teacher's."""

    @abstractmethod
    def describe_answer(self, answer: Any) -> str:
        """One answer for a reader: a row of ``auditsvc.evaluation.Predictions``."""

    @abstractmethod
    def describe_target(self, target: Tensor) -> str:
        """The target of one image for a reader."""


def digest_of_rows(rows: Tensor) -> Tensor:
    """``(N, K)`` integers to ``(N,)`` int64: equal rows give one number, different rows almost surely another.

    Rows that differ in trailing zeros are the same, so that a batch's padding does not matter.
    """
    places = torch.arange(1, rows.shape[1] + 1, device=rows.device, dtype=torch.int64)
    factors = (places * 0x9E3779B1) % 0x7FFFFFFF
    mixed = (rows.long() * 0x5851F42D + rows.long() ** 2 * 0x2545F491) % 0x7FFFFFFF
    return (mixed * factors % 0x3FFFFFFFFFFF).sum(dim=1)


def pairs_of(answers: Tensor, classes: Tensor, shape: tuple[int, int]) -> Tensor:
    """How often each answer goes with each class, as a table of this shape."""
    return torch.bincount(answers.flatten() * shape[1] + classes.flatten(), minlength=shape[0] * shape[1]).view(shape)


def no_class(targets: Tensor) -> Tensor:
    """``(N,)`` zeros: ``ImageScores.target`` of a task whose images have no class of their own."""
    return torch.zeros(len(targets), dtype=torch.int64, device=targets.device)
