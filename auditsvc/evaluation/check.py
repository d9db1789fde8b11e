"""The base class of all checks: parameters as fields, what it will emit, and how it measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from auditsvc.evaluation.context import Disturbance, EvalContext
from auditsvc.records import Reading, TaskName
from auditsvc.tasks import TASKS


class Check(BaseModel, ABC):
    """Code that measures one property.  It judges, stores and catches nothing.

    The fields are the parameters: validated, with a JSON Schema, and part of the evidence.  ``version`` goes
    up whenever the same parameters would give other readings.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: ClassVar[str]
    version: ClassVar[int]
    tasks: ClassVar[frozenset[TaskName]] = frozenset(TASKS)
    """The tasks that it can be asked about."""

    @abstractmethod
    def conditions(self) -> tuple[str, ...]:
        """The names of the conditions that this check compares under, with these parameters."""

    def metrics(self) -> tuple[str, ...]:
        """Every metric that ``measure`` will emit; a policy can name no other."""
        return tuple(f"{kind}.{name}" for kind in ("score", "parent", "drop") for name in self.conditions())

    @abstractmethod
    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Readings for every metric on every slice."""

    def faults(self, task: TaskName) -> tuple[str, ...]:
        """Why it can't be asked about this task with these parameters; none if it can."""
        if task not in self.tasks:
            return (f"{self.id} is for {', '.join(sorted(self.tasks))}, not for {task}",)
        if task != "classification" and getattr(self, "errors_apart", False):
            return (f"{self.id}: errors_apart needs classes of images, which {task} does not have",)
        return ()

    def cost(self) -> float:
        """Passes over the data set, roughly: how long it takes beside one clean pass of both models."""
        return float(len(self.conditions()))

    def work(self, images: int) -> float:
        """How many images go through the models, roughly, where the data set has so many."""
        return self.cost() * min(images, getattr(self, "images", images))

    def disturbances(self) -> Mapping[str, Disturbance]:
        """What is done to the images under each condition that one picture can show; the report shows it."""
        return {}

    def parameters(self) -> dict[str, Any]:
        """The parameters in full, defaults filled in: what the evidence is bound to."""
        return self.model_dump(mode="json")
