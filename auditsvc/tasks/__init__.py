"""Kinds of model.  Each turns outputs and targets into one score in 0..1 for each image.

That score is the common currency: it can be sliced, paired and given an interval, so a check never asks
which task it faces.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from auditsvc.errors import InvalidInput
from auditsvc.tasks.classification import Classification


class Task(Protocol):
    """What a kind of model must be able to say about its answers."""

    @property
    def name(self) -> str:
        """The task's name, as records write it."""
        ...

    def scores(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` float32 in 0..1: how right each answer is."""
        ...

    def answers(self, outputs: Tensor) -> Tensor:
        """``(N,)`` int64: each answer as one number, to see which changed."""
        ...

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """``(N,)`` differentiable, larger is worse: what an attack climbs."""
        ...

    def words(self, answer: int) -> str:
        """An answer or a target for a reader."""
        ...


def task_named(name: str, classes: tuple[str, ...]) -> Task:
    """The task of this name.

    Raises:
        InvalidInput: no task of this name can be audited yet.
    """
    if name == "classification":
        return Classification(classes)
    raise InvalidInput(f"the task {name!r} can't be audited yet; what can: classification")


__all__ = ["Classification", "Task", "task_named"]
