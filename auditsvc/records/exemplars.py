"""Images that a recipe changes whatever its seed: what compression does, apart from luck."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from auditsvc.records.base import Digest, Moment, Record, Text, Value


class Exemplar(Value):
    """One image on which most seeds agree with each other and not with the parent."""

    image: str
    target: str
    parent: str
    candidates: str
    agreed: Annotated[int, Field(ge=1)]
    slices: tuple[str, ...]


class Exemplars(Record):
    """What several seeds of one recipe change alike on one data set.

    ``changed`` images are answered otherwise by most seeds than by the parent; ``parent_right`` and
    ``candidates_right`` say how many of these either side has right.  ``noise`` is the share of images on which two
    seeds disagree, on average: what a changed answer is to be held against.
    """

    kind: ClassVar[str] = "exemplars"

    parent: Digest
    dataset: Digest
    candidates: Annotated[tuple[Digest, ...], Field(min_length=2)]
    images: Annotated[int, Field(ge=1)]
    changed: Annotated[int, Field(ge=0)]
    parent_right: Annotated[int, Field(ge=0)]
    candidates_right: Annotated[int, Field(ge=0)]
    churn: Annotated[float, Field(ge=0, le=1)]
    noise: Annotated[float, Field(ge=0, le=1)]
    shown: tuple[Exemplar, ...]
    code: Text
    at: Moment

    def subjects(self) -> tuple[str, ...]:
        """Found by each of the candidates."""
        return self.candidates
