"""The base class of all checks: parameters as fields, declared metrics, and how it measures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict

from auditsvc.errors import InvalidInput
from auditsvc.evaluation.context import Disturbance, EvalContext
from auditsvc.records import (
    OVERALL,
    Condition,
    Declarations,
    Family,
    Metric,
    Reading,
    TaskName,
    Unmeasured,
    paired_metrics,
)
from auditsvc.runtimes import machine_words, run_named


def _known(run: str) -> str:
    try:
        run_named(run)
    except InvalidInput as error:
        raise ValueError(str(error)) from error
    return run


Run = Annotated[str, AfterValidator(_known)]
"""A run that a policy names: ``openvino/int8``, or on a device ``litert/int8@pixel-8``."""


class Check(BaseModel, ABC):
    """Code that measures one property.  It judges, stores and catches nothing.

    The fields are the parameters: validated, with a JSON Schema, and part of the evidence.  ``version`` goes
    up whenever the same parameters would give other readings.  What the readings mean is declared here and nowhere
    else: ``metrics``, ``conditions`` and ``families`` are stored with the evidence, and the gate, reports, pages and
    power planning read them there.

    Example:
        >>> class Fog(Check):
        ...     id, version, topics = "fog", 1, frozenset({"robust.corruption"})
        ...     depth: float = 0.5
        ...     def conditions(self):
        ...         fog = Family(name="fog", title="Fog", axis="optical depth", words="fog of optical depth {}")
        ...         return (fog.condition(self.depth),)
        ...     def measure(self, case):
        ...         yield from case.compare(f"fog@{self.depth:g}", partial(add_fog, depth=self.depth))
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: ClassVar[str]
    version: ClassVar[int]
    tasks: ClassVar[frozenset[TaskName] | None] = None
    """The tasks that it supports; None for every task."""
    needs: ClassVar[Literal["images", "scores", "answers"]] = "images"
    """What it measures from: models that run on images, their scores on the images as they are, or their answers."""
    topics: ClassVar[frozenset[str]] = frozenset()
    """The kinds of evidence that it gives, from ``policies/frameworks/_vocabulary.yaml``.  A check without topics
    covers none: a report can't claim coverage that no check declares."""

    asks_ledger: ClassVar[bool] = False
    """Whether it measures from ``EvalContext.data_facts``: what is recorded of data sets is then part of the key."""

    def conditions(self) -> tuple[Condition, ...]:
        """The conditions that this check compares under, with these parameters; none where it disturbs nothing."""
        return ()

    def metrics(self) -> tuple[Metric, ...]:
        """Every metric that ``measure`` will emit; a policy can name no other."""
        return paired_metrics(self.conditions())

    def families(self) -> tuple[Family, ...]:
        """The series of conditions that differ in one number."""
        return ()

    def declarations(self) -> Declarations:
        """All of this, as it is stored with the evidence."""
        return Declarations(
            topics=tuple(sorted(self.topics)),
            metrics=self.metrics(),
            conditions=self.conditions(),
            families=self.families(),
        )

    def unmeasured(self, reason: str, images: int = 0) -> Iterator[Reading]:
        """Why none of its metrics has a number."""
        none = Unmeasured(reason=reason, images=images)
        yield from (Reading(metric=one.id, slice=OVERALL, outcome=none) for one in self.metrics())

    @abstractmethod
    def measure(self, case: EvalContext) -> Iterator[Reading]:
        """Readings for every metric on every slice."""

    def faults(self, task: TaskName) -> tuple[str, ...]:
        """Why it does not support this task with these parameters; empty if it does."""
        if self.tasks is not None and task not in self.tasks:
            return (f"{self.id} is for {', '.join(sorted(self.tasks))}, not for {task}",)
        if task != "classification" and getattr(self, "errors_apart", False):
            return (f"{self.id}: errors_apart needs classes of images, which {task} does not have",)
        return ()

    def cost(self) -> float:
        """The approximate number of passes over the data set; 1 is one clean pass of both models."""
        return float(len(self.conditions()))

    def work(self, images: int) -> float:
        """The approximate number of images that go through the models, on a data set of ``images`` images."""
        return self.cost() * min(images, getattr(self, "images", images))

    def disturbances(self) -> Mapping[str, Disturbance]:
        """What is done to the images under each condition that one picture can show; the report shows it."""
        return {}

    @property
    def runs_named(self) -> tuple[str, ...]:
        """The runs that it needs, as ``Run``."""
        return ()

    def machine(self) -> str | None:
        """What its readings depend on outside of files and data; evidence of another machine is not found again.

        With runs: the flags of the CPU, the versions of the runtimes, one thread.
        """
        return machine_words(self.runs_named) if self.runs_named else None

    def parameters(self) -> dict[str, Any]:
        """The parameters in full, defaults filled in: what the evidence is bound to."""
        return self.model_dump(mode="json")
