"""The card beside every set of weights: which class rebuilds the model, and what goes in and out."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from auditsvc.models.decoding import LAYOUTS, Decoding
from auditsvc.records import Name, Record, TaskName, Value


class InputSpec(Value):
    """What one image must be: ``channels`` x ``height`` x ``width``, RGB or grey, floats in 0..1."""

    channels: Annotated[int, Field(ge=1, le=16)]
    height: Annotated[int, Field(ge=1, le=8192)]
    width: Annotated[int, Field(ge=1, le=8192)]


class ArchitectureCard(Record):
    """``architecture.json``: the architecture by name, never code.

    ``output`` names the answer that is audited where the architecture has several, ``decoding`` how it is laid out
    where the task knows several layouts.  Normalisation is part of the model, so that every check can work in the
    image's own units.
    """

    kind: ClassVar[str] = "architecture"

    architecture: Name
    arguments: dict[str, Any] = {}
    task: TaskName
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    input: InputSpec
    output: str | None = None
    decoding: Decoding | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("two classes have the same name")
        own = LAYOUTS.get(self.task, ())
        if self.decoding is not None and self.decoding.layout not in own:
            known = ", ".join(own) or "none"
            raise ValueError(f"{self.task} has no layout {self.decoding.layout!r}; it has {known}")
        return self
