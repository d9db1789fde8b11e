"""Kinds of model.  Each turns outputs and targets into one score in 0..1 for each image.

That score is the common currency: it can be sliced, paired and given an interval, so a check never asks
which task it faces.  Beside it a task tallies what its own measures of a whole corpus are made of.

Targets are always one tensor with an entry for each image, padded where images have more or less of something:
class numbers, boxes, pixels, characters.
"""

from __future__ import annotations

from typing import Any, Protocol, get_args

from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.records import TaskName
from auditsvc.tasks.classification import Classification
from auditsvc.tasks.detection import Detection
from auditsvc.tasks.ocr import Ocr
from auditsvc.tasks.scoring import ImageScores
from auditsvc.tasks.segmentation import Segmentation
from auditsvc.tasks.tracking import Tracking


class Task(Protocol):
    """What a kind of model must be able to say about its answers."""

    @property
    def name(self) -> str:
        """The task's name, as records write it."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """What can be answered, in the order of its numbers."""
        ...

    @property
    def tallied(self) -> int:
        """How many numbers are tallied for each image."""
        ...

    @property
    def step(self) -> float:
        """An image is lost or won only if its score moves by more than this."""
        ...

    def judged(self, outputs: Tensor, targets: Tensor) -> ImageScores:
        """Everything that is said of a batch."""
        ...

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` float32 in 0..1: how right each answer is."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` differentiable, larger is worse: what an attack climbs and training descends."""
        ...

    def answered(self, outputs: Tensor) -> Tensor:
        """The answers as if they were targets: what another model's answers can be held against."""
        ...

    def imitation(self, outputs: Tensor, wanted: Tensor, temperature: float) -> Tensor:
        """A differentiable number: how far answers are from those of a parent, for distillation."""
        ...

    def words(self, answer: Any) -> str:
        """One answer for a reader: a row of ``measuring.Answers``."""
        ...

    def target_words(self, target: Tensor) -> str:
        """The target of one image for a reader."""
        ...


_KINDS: dict[TaskName, type[Any]] = {
    "classification": Classification,
    "detection": Detection,
    "segmentation": Segmentation,
    "ocr": Ocr,
    "tracking": Tracking,
}
TASKS: tuple[TaskName, ...] = get_args(TaskName)


def task_named(name: str, classes: tuple[str, ...]) -> Task:
    """The task of this name.

    Raises:
        InvalidInput: there is no task of this name.
    """
    if name not in TASKS:
        raise InvalidInput(f"there is no task {name!r}; there are: {', '.join(TASKS)}")
    task: Task = _KINDS[name](classes)
    return task


__all__ = [
    "TASKS",
    "Classification",
    "Detection",
    "ImageScores",
    "Ocr",
    "Segmentation",
    "Task",
    "Tracking",
    "task_named",
]
